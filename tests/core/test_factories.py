from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.core.errors import SourceError
from edgekit.core.factories import reference_digest

NETWORK = """
import blocks
from layers.norms import norm
def network():
    from late import extra
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Write files below a folder by their paths."""

    def go(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return go


def test_a_reference_stands_for_all_files_beside_it_that_it_imports(tmp_path: Path, write: Callable[..., None]) -> None:
    files = {
        "network": NETWORK,
        "blocks": "import shared",
        "shared": "",
        "layers__norms": "from . import eps",
        "layers__eps": "",
        "late": "",
    }
    write(**files, other="import json")
    reference = f"{tmp_path / 'network.py'}:network"
    before = reference_digest(reference)
    for name in files:
        write(**{name: f"{files[name]}\n# changed"})
        assert reference_digest(reference) != before, name
        write(**files)
        assert reference_digest(reference) == before
    write(other="# changed")
    assert reference_digest(reference) == before


def test_of_a_package_the_package_counts(tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    write(mynets__tiny="from .blocks import block\nimport elsewhere", mynets__blocks="", elsewhere="")
    (tmp_path / "mynets" / "__init__.py").touch()
    before = reference_digest("mynets.tiny:tiny")
    write(elsewhere="# changed")
    assert reference_digest("mynets.tiny:tiny") == before
    write(mynets__blocks="# changed")
    assert reference_digest("mynets.tiny:tiny") != before


def test_files_that_can_not_be_read_as_python_have_a_digest_all_the_same(tmp_path: Path, write: Callable[..., None]) -> None:
    write(network="import network\nfrom .. import far", broken="def (")
    assert reference_digest(f"{tmp_path / 'network.py'}:x") != reference_digest(f"{tmp_path / 'broken.py'}:x")
    with pytest.raises(SourceError, match="no such Python file"):
        reference_digest("nothing.py:x")
