from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from edgekit.cli import _progress


@pytest.fixture(autouse=True)
def heard():
    """Whoever started the tests may have them ignore interrupts, as a shell does in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    signal.sigtimedwait([], 0)  # lets the handler run


def test_an_interrupt_that_a_library_swallows_ends_the_run_at_its_next_step(capfd):
    with _progress.listener() as progress:
        progress.stage("export")
        with suppress(KeyboardInterrupt):
            interrupt()
        for step in (lambda: progress.stage("verify"), lambda: progress.advance(1, 2), lambda: progress.note("loss 1")):
            with pytest.raises(KeyboardInterrupt):
                step()
    said = capfd.readouterr().err
    assert "export" in said
    assert "verify" not in said


def test_afterwards_interrupts_are_python_s_own_again():
    with _progress.listener(), pytest.raises(KeyboardInterrupt):
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _progress.listener() as progress:
        interrupt()
        progress.note("still here")
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
