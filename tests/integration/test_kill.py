"""A run that is killed at any moment leaves nothing half-made, and the next one ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import edgekit
from edgekit.core.report import load_report
from edgekit.core.store import StageKey, Store, _whole

MOMENTS = 10


@pytest.fixture
def run(kit):
    """Start ``edgekit compress`` in a process of its own with a store of its own."""

    def start(store: Path, out: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(edgekit.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "EDGEKIT_CACHE": str(store), "PYTHONPATH": path}
        command = [sys.executable, "-m", "edgekit", *arguments, "-o", str(out)]
        return subprocess.Popen(command, cwd=kit.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    return start


def finish(process: subprocess.Popen[bytes]) -> str:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    return said.decode()


def wait_for(process: subprocess.Popen[bytes], stage: str) -> None:
    while f"] {stage}" not in process.stderr.readline().decode():
        assert process.poll() is None


def wait_until(condition: Callable[[], bool]) -> None:
    """Runners leave by themselves when nobody speaks to them any more."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def status(process: int) -> tuple[str, int]:
    """State and parent of a process; it is a zombie once it is gone."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[:2]
    except OSError:
        return "Z", 0
    return state, int(parent)


def children(process: int) -> list[int]:
    everybody = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [number for number in everybody if status(number)[1] == process]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def entries(store: Path) -> dict[str, dict[str, bytes]]:
    """What a store holds, after checking that all of it is whole or a temporary sibling that nobody takes for a result."""
    found = {}
    for shelf in sorted((store / "objects").iterdir()) if (store / "objects").is_dir() else []:
        if shelf.name.startswith(".tmp-"):
            continue
        assert len(shelf.name) == 2
        for entry in shelf.iterdir():
            assert _whole(entry), f"{entry} is half-made"
            found[entry.name] = contents(entry)
    return found


def killed_and_finished(run, folder: Path, arguments: list[str], seed: int) -> None:
    """Kill a run at moments spread over its length, finish it, and compare with a run that nobody disturbed.

    An earlier run lies where the killed one wants to write.
    """
    finish(run(folder / "calm", folder / "earlier", [*arguments, "--seed", "9"]))
    began = time.monotonic()
    finish(run(folder / "undisturbed", folder / "wanted", arguments))
    length = time.monotonic() - began
    earlier, wanted, stored = contents(folder / "earlier"), contents(folder / "wanted"), entries(folder / "undisturbed")
    assert earlier != wanted
    chance = random.Random(seed)
    died = 0
    for moment in range(MOMENTS):
        store, out = folder / f"store{moment}", folder / f"run{moment}"
        shutil.copytree(folder / "earlier", out)
        process = run(store, out, arguments)
        time.sleep(length * (moment + chance.random()) / MOMENTS)
        process.kill()
        process.communicate()
        died += process.returncode == -signal.SIGKILL
        survived = entries(store)
        assert survived.items() <= stored.items()
        assert contents(out) in (earlier, wanted)
        said = finish(run(store, out, arguments))
        assert said.count("(stored)") >= len(survived)
        assert contents(out) == wanted
        assert entries(store) == stored
        assert not list((store / "objects").glob(".tmp-*"))
        assert not list(folder.glob(f".{out.name}.*"))
    assert died >= MOMENTS // 2, "the runs were over before they were killed"


def test_killed_at_ten_moments_a_run_ends_as_if_undisturbed(kit, run, tmp_path):
    killed_and_finished(run, tmp_path / "kill", kit.compress(kit.graph()), seed=2026)


@pytest.mark.slow
def test_killed_at_ten_moments_a_pytorch_run_ends_as_if_undisturbed(kit, run, tmp_path):
    killed_and_finished(run, tmp_path / "kill", kit.compress(kit.weights, "--format", "openvino", arch=kit.arch), seed=2)


def test_a_killed_run_that_measures_keeps_the_figures_it_had(kit, run, tmp_path):
    """Timings differ from run to run, all else does not; what was stored before the kill is what the report says after it."""
    path = kit.recipe(model=str(kit.graph()), measure={"rounds": 3, "round_seconds": 0.01, "resamples": 200})
    store, out = tmp_path / "store", tmp_path / "run"
    process = run(store, out, ["compress", str(path)])
    wait_for(process, "weigh")
    wait_until(lambda: bool(children(process.pid)))
    runners = children(process.pid)
    process.kill()
    process.communicate()
    wait_until(lambda: all(status(runner)[0] == "Z" for runner in runners))
    before = entries(store)
    finish(run(store, out, ["compress", str(path)]))
    assert before.items() < entries(store).items()
    first = contents(out)
    finish(run(tmp_path / "another", tmp_path / "calm", ["compress", str(path)]))
    report, calm = (load_report(folder) for folder in (out, tmp_path / "calm"))
    kept = {"accuracy", "agreement", "digest", "format", "id", "layers", "precision", "role", "runtime", "size", "target"}
    assert [m.model_dump(include=kept) for m in report.models] == [m.model_dump(include=kept) for m in calm.models]
    assert [(s.plugin, s.key) for s in report.stages] == [(s.plugin, s.key) for s in calm.stages]
    assert first["recipe.yaml"] == contents(tmp_path / "calm")["recipe.yaml"]
    finish(run(store, out, ["compress", str(path)]))
    assert contents(out) == first


@pytest.mark.parametrize("same", [False, True])
def test_two_runs_of_one_recipe_at_once_both_succeed(kit, run, tmp_path, same):
    arguments = kit.compress(kit.graph())
    outs = [tmp_path / "a", tmp_path / ("a" if same else "b")]
    both = [run(tmp_path / "store", out, arguments) for out in outs]
    for process in both:
        finish(process)
    assert contents(outs[0]) == contents(outs[1])
    assert (outs[0] / "host" / "model.onnx").is_file()
    assert entries(tmp_path / "store")
    assert not list(tmp_path.glob(".[ab].*"))
    assert not list((tmp_path / "store" / "objects").glob(".tmp-*"))


def test_an_interrupted_run_says_so_and_tidies_up(kit, run, tmp_path):
    process = run(tmp_path / "store", tmp_path / "run", kit.compress(kit.weights, arch=kit.arch))
    wait_for(process, "export onnx")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode in (130, -signal.SIGINT)  # the latter where the interrupt fell into C code that runs Python code
    assert said.decode().splitlines() == ["error: interrupted", "hint: run the same command again; finished stages are kept"]
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "store" / "objects").glob(".tmp-*"))
    assert entries(tmp_path / "store")


def make_stage(root: Path, text: str = "whole") -> Path:
    def make(out: Path) -> None:
        (out / "deep").mkdir()
        (out / "deep" / "a").write_text(text)
        (out / "b").write_text(text)

    return Store(root).stage(StageKey("test", "core.store"), make).path


@pytest.mark.parametrize("spoiled", [False, True])
def test_the_store_is_whole_before_and_after_every_step_of_a_stage(tmp_path, killed, spoiled):
    """With a spoiled result in the way, too, which is replaced in one step."""
    place = make_stage(tmp_path)
    wanted = contents(place)

    def reset() -> None:
        if not spoiled:
            shutil.rmtree(place.parent)
        else:
            (place / "b").write_text("cut")

    reset()
    made = 0
    for _ in killed(lambda: make_stage(tmp_path)):
        left = sorted((tmp_path / "objects").glob("[0-9a-f]*/*"))
        assert left in ([], [place])
        if left and _whole(place):
            assert contents(place) == wanted
            made += 1
            reset()
        elif left:
            assert spoiled
            assert (place / "b").read_text() == "cut"
    assert made
    assert contents(make_stage(tmp_path)) == wanted
    assert not list((tmp_path / "objects").glob(".tmp-*"))
