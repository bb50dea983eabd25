"""Processes that hold models: what kills them is named, and none of them outlives its session."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, SimpleNamespace

import numpy as np
import pytest

from edgekit.core.errors import EdgekitError, HostError, MissingPackageError
from edgekit.core.plugin import RuntimeSettings, Session
from edgekit.hosts._process import ProcessSession
from edgekit.hosts.fresh_process import FreshProcess


@pytest.fixture
def opened(models: dict[str, Path]) -> Callable[..., ProcessSession]:
    def make(**options: float) -> ProcessSession:
        session = FreshProcess(**options).open(models["onnxruntime"], "onnxruntime", RuntimeSettings())
        assert isinstance(session, ProcessSession)
        return session

    return make


def children() -> set[int]:
    """Children of this process, zombies included."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.add(int(entry.name))
    return found


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def command(code: str, models: dict[str, Path], **options: float) -> ProcessSession:
    """Start any Python code in place of the runner."""
    timeout = options.get("timeout", 30.0)
    start = [sys.executable, "-c", code]
    return ProcessSession(start, os.environ, models["onnxruntime"], "onnxruntime", RuntimeSettings(), host="test", timeout=timeout)


def test_sessions_leave_no_process_and_no_descriptor(opened: Callable[..., ProcessSession], tiny: SimpleNamespace) -> None:
    with opened() as session:
        session.run(tiny.batch(1))
    gc.collect()
    before, open_before = children(), descriptors()
    for _ in range(5):
        with opened() as session:
            assert len(children() - before) == 1
            session.run(tiny.batch(1))
    assert children() == before
    assert descriptors() == open_before


def test_closing_twice_is_harmless_and_a_closed_session_refuses(opened: Callable[..., ProcessSession], tiny: SimpleNamespace) -> None:
    session = opened()
    session.close()
    session.close()
    with pytest.raises(HostError, match="the session is closed"):
        session.run(tiny.batch(1))


def test_a_forgotten_session_is_reaped(opened: Callable[..., ProcessSession]) -> None:
    before = children()
    session: Session | None = opened()
    assert children() != before
    session = None
    gc.collect()
    assert session is None
    assert children() == before


def test_a_session_is_reaped_when_its_model_does_not_load(models: dict[str, Path], tmp_path: Path) -> None:
    before, open_before = children(), descriptors()
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(EdgekitError) as caught:
        FreshProcess().open(tmp_path / "bad.onnx", "onnxruntime", RuntimeSettings())
    assert children() == before  # although the traceback still holds the session
    assert "does not load" in caught.value.message
    del caught
    gc.collect()
    assert descriptors() == open_before


def test_an_interrupt_reaps_the_process(opened: Callable[..., ProcessSession], tiny: SimpleNamespace) -> None:
    before = children()
    session = opened()

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    def interrupted() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        session.time(tiny.batch(1), seconds=60, at_least=1)

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert children() == before
    with pytest.raises(HostError, match="closed"):
        session.peak_memory()


@pytest.mark.parametrize(
    ("number", "hint"), [(signal.SIGKILL, "out of memory"), (signal.SIGSEGV, "another runtime"), (signal.SIGILL, "instruction")]
)
def test_the_signal_that_killed_it_is_named(
    opened: Callable[..., ProcessSession], tiny: SimpleNamespace, number: signal.Signals, hint: str
) -> None:
    session = opened()
    before = children()
    os.kill(session._process.pid, number)
    with pytest.raises(HostError, match=f"tiny.onnx in onnxruntime: the runner's process was ended by {number.name}") as caught:
        session.run(tiny.batch(1))
    assert hint in caught.value.hint
    assert len(children()) == len(before) - 1


def test_a_death_within_a_call_is_noticed(opened: Callable[..., ProcessSession], tiny: SimpleNamespace) -> None:
    session = opened()
    killer = threading.Timer(0.3, os.kill, (session._process.pid, signal.SIGKILL))
    killer.start()
    began = time.monotonic()
    with pytest.raises(HostError, match="SIGKILL"):
        session.time(tiny.batch(1), seconds=60, at_least=1)
    assert time.monotonic() - began < 10
    killer.join()


def test_its_last_words_are_shown(models: dict[str, Path]) -> None:
    words = "import sys; sys.stderr.write('x' * 1000 + '\\nlibfoo.so: cannot open shared object\\n'); sys.exit(7)"
    with pytest.raises(HostError, match=r"ended with status 7: libfoo.so: cannot open shared object \("):
        command(words, models)


def test_nonsense_is_not_waited_for(models: dict[str, Path]) -> None:
    with pytest.raises(HostError, match=r"no frame begins with b'hell'|ended with status 0"):
        command("print('hello world'); import sys; sys.stdout.flush(); sys.stdin.read()", models)


def test_silence_is_given_up(models: dict[str, Path], tiny: SimpleNamespace) -> None:
    before = children()
    began = time.monotonic()
    with pytest.raises(HostError, match=r"no answer within 0.5 s") as caught:
        command("import time; time.sleep(60)", models, timeout=0.5)
    assert time.monotonic() - began < 5
    assert "timeout" in caught.value.hint
    assert children() == before


def test_a_process_that_does_not_read_is_given_up(opened: Callable[..., ProcessSession], tiny: SimpleNamespace) -> None:
    session = opened(timeout=1.0)
    os.kill(session._process.pid, signal.SIGSTOP)
    with pytest.raises(HostError, match="no answer within 1 s"):
        session.run(tiny.batch(100_000))  # more than a pipe holds


def test_a_program_that_is_not_there_is_named(models: dict[str, Path]) -> None:
    with pytest.raises(HostError, match="/nowhere/python: can't be started"):
        ProcessSession(["/nowhere/python"], {}, models["onnxruntime"], "onnxruntime", RuntimeSettings(), host="test", timeout=9)


def test_a_missing_runtime_is_a_missing_package(models: dict[str, Path]) -> None:
    with pytest.raises(MissingPackageError, match="numpy below 2"):
        FreshProcess().open(models["tflite_runtime"], "tflite_runtime", RuntimeSettings())


def test_large_arrays_pass_in_both_directions(opened: Callable[..., ProcessSession], tiny: SimpleNamespace) -> None:
    inputs = tiny.batch(200_000)
    with opened() as session:
        np.testing.assert_allclose(session.run(inputs)["logits"], tiny.reference(inputs)["logits"], rtol=0, atol=1e-4)


def test_several_sessions_live_side_by_side(opened: Callable[..., ProcessSession], tiny: SimpleNamespace) -> None:
    sessions = [opened() for _ in range(3)]
    for size, session in enumerate(sessions, 1):
        assert session.run(tiny.batch(size))["logits"].shape == (size, 3)
    sessions[0].close()
    assert sessions[1].run(tiny.batch(2))["logits"].shape == (2, 3)
    for session in sessions[1:]:
        session.close()


def test_the_runner_leaves_when_this_process_is_killed(models: dict[str, Path], tmp_path: Path) -> None:
    import subprocess

    code = (
        "import pathlib, sys, time; from edgekit.hosts.fresh_process import FreshProcess; from edgekit.core.plugin import RuntimeSettings\n"
        f"s = FreshProcess().open(pathlib.Path({str(models['onnxruntime'])!r}), 'onnxruntime', RuntimeSettings())\n"
        "print(s._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as parent:
        assert parent.stdout
        runner = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{runner}/cmdline").exists() and Path(f"/proc/{runner}/cmdline").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert time.monotonic() < deadline
