from __future__ import annotations

import os
import runpy
import shutil
from pathlib import Path

import pytest

from edgekit.core.artifacts import Artifact, TensorSpec
from edgekit.core.errors import OutputError
from edgekit.core.recipe import Recipe
from edgekit.core.report import Report
from edgekit.core.schema import parse
from edgekit.delivery import deliver, free_folder

SAMPLES = runpy.run_path(str(Path(__file__).parent / "reports" / "samples.py"))
RECIPE = parse(Recipe, {"schema": 1, "model": "x.onnx", "data": {}}, "test")
FILES = {"junit.xml", "recipe.yaml", "report.html", "report.json", "report.md", "host/model.onnx", "host/deep/model.data", "host/plan.json"}


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    """A stored artefact with external data and a plan."""
    folder = tmp_path / "stored"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "deep" / "model.data").write_bytes(b"weights")
    (folder / "plan.json").write_text("[]")
    (folder / "stage.json").write_text("{}")
    spec = (TensorSpec("x", "float32", (1,)),)
    return Artifact.describe(folder, format="onnx", file="model.onnx", precision="fp32", inputs=spec, outputs=spec)


def report(name: str = "run-one") -> Report:
    made: Report = SAMPLES["bare_report"](name=name)
    target = SAMPLES["full_report"]().targets[0].model_copy(update={"chosen": "m"})
    return made.model_copy(update={"targets": (target,)})


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def beside(out: Path) -> list[str]:
    return sorted(p.name for p in out.parent.iterdir() if p.name.startswith("."))


def test_a_run_folder_holds_reports_recipe_and_the_whole_model(tmp_path: Path, model: Artifact) -> None:
    deliver(report(), RECIPE, {"m": model}, tmp_path / "new" / "run")
    assert names(tmp_path / "new" / "run") == FILES
    assert (tmp_path / "new" / "run" / "host" / "deep" / "model.data").read_bytes() == b"weights"
    assert (tmp_path / "new" / "run").stat().st_mode & 0o777 == 0o777 & ~_umask()


def test_an_earlier_run_is_replaced_as_a_whole(tmp_path: Path, model: Artifact) -> None:
    out = tmp_path / "run"
    deliver(report(), RECIPE, {"m": model}, out)
    (out / "note of the user.txt").touch()
    deliver(report(), RECIPE, {}, out)
    assert names(out) == {name for name in FILES if "/" not in name}
    assert beside(out) == []


def test_a_link_to_a_run_folder_stays_a_link(tmp_path: Path, model: Artifact) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    for _ in range(2):
        free_folder(tmp_path / "run")
        deliver(report(), RECIPE, {"m": model}, tmp_path / "run")
    assert (tmp_path / "run").is_symlink()
    assert names(tmp_path / "disk" / "run") == FILES


def test_free_folder_makes_nothing(tmp_path: Path) -> None:
    free_folder(tmp_path / "a" / "b" / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_a_kill_left_aside_is_brought_back(tmp_path: Path, model: Artifact) -> None:
    """As it happens where the kernel can't exchange two names."""
    out = tmp_path / "run"
    deliver(report(), RECIPE, {"m": model}, out)
    out.rename(tmp_path / ".run.old-0123abcd")
    (tmp_path / ".run.new-0123abcd").mkdir()
    free_folder(out)
    assert names(out) == FILES
    assert beside(out) == []


def test_places_that_can_not_become_a_run_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "report.json").write_text('{"tests": []}')
    deliver(report(), RECIPE, {}, tmp_path / "shared")
    (tmp_path / "shared" / "diary.txt").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "cwd" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cwd" / "below")
    refused = {
        tmp_path / "file": "is a file",
        tmp_path / "loop": "is a file",
        tmp_path / "file" / "run": "Not a directory",
        tmp_path / "mine": "is not empty and holds no earlier run",
        tmp_path / "tests": "is not empty and holds no earlier run",
        tmp_path / "shared": "holds 'diary.txt', which no run wrote",
        tmp_path / ("x" * 300): "too long",
        Path(): "the folder you are in",
        tmp_path / "cwd": "the folder you are in",
        Path("/proc/none/run"): "can't be written",
        Path("/dev/shm"): "mounted disk",
    }
    for place, words in refused.items():
        with pytest.raises(OutputError, match=words) as caught:
            free_folder(place)
        assert caught.value.hint
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_model_that_can_not_be_copied_leaves_the_earlier_run_as_it_was(tmp_path: Path, model: Artifact) -> None:
    out = tmp_path / "run"
    deliver(report("run-one"), RECIPE, {"m": model}, out)
    before = {name: (out / name).read_bytes() for name in names(out)}
    limit = _file_size_limit(10)
    try:
        with pytest.raises(OutputError, match="File too large"):
            deliver(report("run-two"), RECIPE, {"m": model}, out)
    finally:
        _file_size_limit(limit)
    assert {name: (out / name).read_bytes() for name in names(out)} == before
    assert beside(out) == []


def test_killed_at_any_moment_the_folder_is_absent_or_whole(tmp_path: Path, model: Artifact, killed) -> None:
    out, made = tmp_path / "run", report()
    for _ in killed(lambda: deliver(made, RECIPE, {"m": model}, out)):
        assert not out.exists() or names(out) == FILES
        shutil.rmtree(out, ignore_errors=True)
    assert beside(out)
    free_folder(out)
    assert beside(out) == []


def test_killed_at_any_moment_an_earlier_run_is_there_or_the_new_one(tmp_path: Path, model: Artifact, killed) -> None:
    out, old, new = tmp_path / "run", report("run-one"), report("run-two")
    deliver(old, RECIPE, {"m": model}, out)
    seen = set()
    for _ in killed(lambda: deliver(new, RECIPE, {"m": model}, out)):
        assert names(out) == FILES
        said = {"run-two" in (out / name).read_text() for name in ("report.json", "report.html", "report.md")}
        assert len(said) == 1
        seen |= said
        if said == {True}:
            deliver(old, RECIPE, {"m": model}, out)
    assert seen == {False, True}
    free_folder(out)
    assert beside(out) == []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _file_size_limit(size: int) -> int:
    import resource

    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    return before
