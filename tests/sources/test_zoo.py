"""Models of timm and torchvision by name; the libraries themselves are played by small modules, since they are no dependency."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from edgekit.core.errors import MissingPackageError, SourceError
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context, Source
from edgekit.opening import open_source


class Net(torch.nn.Sequential):
    def __init__(self, width: int = 3) -> None:
        super().__init__(torch.nn.Conv2d(3, width, 1), torch.nn.Flatten())


def make(name: str, width: int = 3, **kwargs: Any) -> Net:
    if name != "tiny.a1":
        raise RuntimeError(f"Unknown model ({name})")
    if kwargs.get("pretrained") or kwargs.get("weights"):
        raise OSError("no network")
    return Net(width)


@pytest.fixture(params=["timm", "torchvision"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    module, models = ModuleType(name), ModuleType(f"{name}.models")
    for holder, function in ((module, "create_model"), (models, "get_model")):
        setattr(holder, function, make)
    module.models = models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, f"{name}.models", models)
    return name


def opened(wish: dict[str, Any]) -> Source:
    source = open_source(wish, Path())
    source.check_packages()
    return source


def test_a_name_with_a_file_of_weights_becomes_a_checkpoint(library: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Net(5)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    wish = {"path": f"{library}:tiny.a1", "weights": str(tmp_path / "w.pth"), "arguments": {"width": 5}}
    source = opened(wish)
    (tmp_path / "out").mkdir()
    checkpoint = source.fetch(tmp_path / "out", Context(example={}))
    assert (checkpoint.source, set(source.fingerprint())) == (library, {"library", "weights"})
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(load_module(checkpoint)(x), network(x))


def test_weights_that_can_not_be_fetched_are_told_in_one_line(library: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no network"):
        opened({"path": f"{library}:tiny.a1"}).fetch(tmp_path, Context(example={}))


def test_an_unknown_name_is_told_in_one_line(library: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing: can't be made"):
        opened({"path": f"{library}:nothing"}).fetch(tmp_path, Context(example={}))


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_a_missing_library_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=name):
        opened({"path": f"{name}:resnet18"})
