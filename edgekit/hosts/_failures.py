"""What the runner says went wrong, as the errors that users see."""

from __future__ import annotations

from edgekit.core.errors import EdgekitError, HostError, MissingPackageError, SourceError
from edgekit.runner import RunnerError


def as_error(problem: RunnerError, where: str) -> EdgekitError:
    """Turn a runner's error into edgekit's.

    Args:
        problem: what the runner said.
        where: model and runtime, for the message.
    """
    message = f"{where}: {problem.message}"
    if problem.kind == "missing":
        return MissingPackageError(message, hint=problem.hint)
    if problem.kind == "model":
        return SourceError(message, hint=problem.hint or "check the model in its own runtime")
    return HostError(message, hint=problem.hint)
