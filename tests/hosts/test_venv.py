from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.core.environments import environment
from edgekit.core.errors import MissingPackageError, OutputError, RecipeError
from edgekit.core.plugin import Host, RuntimeSettings
from edgekit.core.registry import create
from edgekit.hosts.venv import Venv


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "venvs"


def made(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def test_options_are_checked() -> None:
    assert Venv().packages == ("tflite-runtime==2.14.0", "numpy==1.26.4")
    with pytest.raises(RecipeError, match="packages"):
        create(Host, {"use": "venv", "packages": []}, "host")
    with pytest.raises(RecipeError, match="timeout"):
        create(Host, {"use": "venv", "timeout": 0}, "host")


def test_other_environments_do_not_leak_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"} & set(environment())
    assert environment()["PYTHONNOUSERSITE"] == "1"
    assert environment()["PATH"] == os.environ["PATH"]


def test_an_unwritable_store_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError):
        Venv().interpreter()


@pytest.mark.slow
def test_a_package_that_does_not_exist_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    (cache / ".tmp-999999999-left").mkdir(parents=True)
    with pytest.raises(MissingPackageError, match=r"pip can't install edgekit-no-such-package==1.0 .*No matching distribution") as caught:
        Venv(packages=("edgekit-no-such-package==1.0",)).interpreter()
    assert "edgekit-no-such-package==1.0" in caught.value.hint
    assert made(cache) == []  # nothing half-made stays, and what a dead process left is gone


@pytest.mark.slow
def test_two_processes_make_one_environment_and_it_is_found_again(cache: Path, tiny: SimpleNamespace, models: dict[str, Path]) -> None:
    code = "from edgekit.hosts.venv import Venv; print(Venv().interpreter())"
    start = [sys.executable, "-c", code]
    home = Path(__file__).parents[2]
    both = [subprocess.Popen(start, stdout=subprocess.PIPE, text=True, cwd=home) for _ in range(2)]
    found = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(found) == 1
    assert len(made(cache)) == 1
    stamp = made(cache)[0].stat().st_mtime_ns
    inputs = tiny.batch(3)
    with Venv().open(models["tflite_runtime"], "tflite_runtime", RuntimeSettings()) as session:
        assert session.circumstances["version"] == "2.14.0"
        np.testing.assert_allclose(session.run(inputs)["logits"], tiny.reference(inputs)["logits"], rtol=0, atol=1e-5)
    assert made(cache)[0].stat().st_mtime_ns == stamp
    with pytest.raises(MissingPackageError, match="onnxruntime does not import"):
        Venv().open(models["onnxruntime"], "onnxruntime", RuntimeSettings())
    probe = "import sys, importlib.util as u; print([n for n in ('edgekit', 'pydantic') if u.find_spec(n)])"
    done = subprocess.run([found.pop(), "-c", probe], capture_output=True, text=True, env=environment(), cwd="/", check=True)
    assert done.stdout.strip() == "[]"
