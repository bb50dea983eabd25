"""What the sources of ready graphs share: a file is tried out in the runtime that loads it, before any work starts."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.chatter import muted
from edgekit.core.errors import MissingPackageError, SourceError
from edgekit.runner import RunnerError, load


def checked(path: Path, runtime: str, shown: Path) -> None:
    """Load a model file in a runtime, which tells whether it knows every operator.

    Args:
        path: the file.
        runtime: the one that runs it as it came.
        shown: what the user calls it.

    Raises:
        SourceError: the runtime refuses the file; its words name the operator.
        MissingPackageError: the runtime is not here.
    """
    try:
        with muted(native=True):
            load(path, runtime).close()
    except RunnerError as problem:
        if problem.kind == "missing":
            raise MissingPackageError(problem.message, hint=problem.hint) from problem
        said = problem.message.removeprefix(f"{path.name}: ")
        raise SourceError(f"{shown}: {said}", hint="the file is damaged, or has an operator that no runtime here has") from problem


def no_module(kind: str) -> SourceError:
    """Say that a ready graph can't be trained."""
    return SourceError(f"{kind} has no PyTorch module", hint="start from the PyTorch checkpoint for passes and other formats")
