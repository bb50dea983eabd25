"""This process: the quickest way to run a model when neither its latency nor its memory is to be judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.artifacts import TensorSpec
from edgekit.core.plugin import Host, RuntimeSettings, Session
from edgekit.hosts._failures import as_error
from edgekit.runner import RunnerError, load
from edgekit.runner.memory import peak

if TYPE_CHECKING:
    from edgekit.core.artifacts import Batch
    from edgekit.runner import Runtime


class InProcess(Host):
    """Run models in this process."""

    def open(self, model: Path, runtime: str, settings: RuntimeSettings) -> Session:
        """Load a model file in a runtime.

        Raises:
            MissingPackageError: the runtime is not installed.
            SourceError: the runtime can't load the model.
            HostError: the settings can't be had here.
        """
        where = f"{model.name} in {runtime}"
        try:
            return InProcessSession(load(model, runtime, threads=settings.threads, precision=settings.precision), where)
        except RunnerError as problem:
            raise as_error(problem, where) from problem


class InProcessSession(Session):
    """A model that lives in this process."""

    def __init__(self, model: Runtime, where: str) -> None:
        self._model = model
        self._where = where
        self.inputs = tuple(TensorSpec(*spec) for spec in model.inputs)
        self.outputs = tuple(TensorSpec(*spec) for spec in model.outputs)
        self.circumstances = {**model.circumstances, "host": "in_process"}

    def run(self, inputs: Batch) -> Batch:
        """Run the model once.

        Raises:
            HostError: the arrays don't fit the model.
            SourceError: the runtime fails on them.
        """
        try:
            return self._model.run(inputs)
        except RunnerError as problem:
            raise as_error(problem, self._where) from problem

    def time(self, inputs: Batch, *, seconds: float, at_least: int) -> list[int]:
        """Run the model again and again on the same inputs; return each call's wall time in nanoseconds."""
        try:
            laps: list[int] = self._model.time(inputs, seconds, at_least).tolist()
        except RunnerError as problem:
            raise as_error(problem, self._where) from problem
        return laps

    def generate(self, inputs: Batch, **options: Any) -> Batch:
        """Write new tokens behind a prompt."""
        try:
            return self._model.generate(inputs, options)
        except RunnerError as problem:
            raise as_error(problem, self._where) from problem

    def peak_memory(self) -> int:
        """Peak resident set of this whole process in bytes: everything that ever was in it, not the model's alone."""
        return peak()

    def close(self) -> None:
        """Let go of the model."""
        self._model.close()
