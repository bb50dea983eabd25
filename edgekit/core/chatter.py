"""Keeps what libraries print away from people: stdout belongs to edgekit's results, stderr to its progress."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def muted(*, native: bool = False) -> Iterator[None]:
    """Silence printed lines, warnings and log records while a library works; what goes wrong is raised, not printed.

    Args:
        native: also what C++ code writes to the process's own stdout and stderr; nothing else may want to print meanwhile.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            if native:
                stack.enter_context(_descriptors_muted())
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _descriptors_muted() -> Iterator[None]:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def innermost(problem: BaseException) -> str:
    """Return the root cause of a library's failure as one line; where in C++ it was noticed tells a user nothing."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))] or lines
    return (telling[0] if telling else type(problem).__name__)[:240]
