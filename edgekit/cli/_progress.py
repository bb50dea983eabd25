"""Progress on stderr: a live line on a terminal, one plain line a stage elsewhere; and the end of a run that is interrupted."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, TextIO

from edgekit.core.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


@contextmanager
def listener() -> Iterator[Progress]:
    """Listen to a run in the way that fits stderr; what libraries or users' code print meanwhile goes there too."""
    if not sys.stderr.isatty():
        with _stdout_to_stderr(), _interruptible(Plain(sys.stderr)) as progress:
            yield progress
        return
    with _bar() as bar, _stdout_to_stderr(), _interruptible(Live(bar)) as progress:
        yield progress


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Keep stdout for results: not even C++ code may print there."""
    try:
        kept = os.dup(1)
    except OSError:  # it is closed
        yield
        return
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _interruptible(progress: Progress) -> Iterator[Progress]:
    """Remember an interrupt while a run lasts; one that is ignored, as in the background of a shell, stays ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield progress
        return
    heard = Interruptible(progress)
    signal.signal(signal.SIGINT, heard.interrupt)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Interruptible(Progress):
    """Interrupts a run once more at its next step: libraries that call Python from C swallow an interrupt now and then."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self._interrupted = False

    def interrupt(self, *_: object) -> None:
        """Take up the signal."""
        self._interrupted = True
        raise KeyboardInterrupt

    def stage(self, name: str, *, cached: bool = False) -> None:
        """Begin a stage, unless the run was interrupted."""
        self._check()
        self._inner.stage(name, cached=cached)

    def advance(self, done: int, total: int, said: str = "") -> None:
        """Go on, unless the run was interrupted."""
        self._check()
        self._inner.advance(done, total, said)

    def note(self, text: str) -> None:
        """Say something, unless the run was interrupted."""
        self._check()
        self._inner.note(text)

    def _check(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt


class Plain(Progress):
    """One line a stage, for build logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = time.monotonic()

    def stage(self, name: str, *, cached: bool = False) -> None:
        """Write the stage's name and the time since the run began."""
        self._stream.write(f"[{time.monotonic() - self._began:6.1f} s] {name}{' (stored)' if cached else ''}\n")
        self._stream.flush()

    def advance(self, done: int, total: int, said: str = "") -> None:
        """Stay silent: a log is no place for a bar."""

    def note(self, text: str) -> None:
        """Write the note."""
        self._stream.write(f"           {text}\n")


class Live(Progress):
    """A bar for the current stage; finished stages scroll up."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._stage = "starting"
        self._task = bar.add_task(self._stage, total=None)

    def stage(self, name: str, *, cached: bool = False) -> None:
        """Begin a new bar."""
        if cached:
            self._bar.console.print(f"  [dim]{name} (stored)[/dim]")
            return
        self._stage = name
        self._bar.update(self._task, description=name, completed=0, total=None)

    def advance(self, done: int, total: int, said: str = "") -> None:
        """Move the bar."""
        self._bar.update(self._task, description=f"{self._stage} {said}".rstrip(), completed=done, total=total)

    def note(self, text: str) -> None:
        """Print above the bar."""
        self._bar.console.print(text)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    return Bar(*columns, console=Console(stderr=True), transient=True)
