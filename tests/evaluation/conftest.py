"""A data set of arrays and a session that computes in NumPy: evaluation needs no more than the contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifacts import Batch
from edgekit.core.datasets import DataSet
from edgekit.core.errors import HostError
from edgekit.core.plugin import Host, RuntimeSettings, Session


class ArrayData(DataSet):
    """Inputs and labels in memory."""

    def __init__(
        self,
        inputs: np.ndarray,
        labels: Sequence[Any] | None = None,
        *,
        classes: tuple[str, ...] = (),
        metadata: list[dict[str, str]] | None = None,
        promised: int | None = None,
    ) -> None:
        self.name = "arrays"
        self.classes = classes
        self.inputs = inputs
        self.labels = list(labels) if labels is not None else [None] * len(inputs)
        self._metadata = metadata if metadata is not None else [{} for _ in inputs]
        self.promised = len(inputs) if promised is None else promised

    @property
    def digest(self) -> str:
        return f"{self.inputs.shape}-{float(np.sum(self.inputs)):.6f}-{self.promised}"

    @property
    def provenance(self) -> dict[str, Any]:
        return {}

    def __len__(self) -> int:
        return self.promised

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[Batch, list[Any]]]:
        for begin in range(0, len(self.inputs), size):
            yield {"x": self.inputs[begin : begin + size]}, self.labels[begin : begin + size]

    def sample_digests(self) -> Iterator[str]:
        yield from ()

    def metadata(self) -> list[dict[str, str]]:
        return self._metadata


class NumpySession(Session):
    """A function of arrays as a model, whose calls claim to take as long as told: a busy machine does not disturb a test."""

    def __init__(self, function: Callable[[np.ndarray], Batch], *, seconds: float = 0.0, dies_after: int | None = None) -> None:
        self.inputs = ()
        self.outputs = ()
        self.circumstances = {"runtime": "numpy", "threads": 1}
        self.function = function
        self.seconds = seconds
        self.dies_after = dies_after
        self.calls = 0
        self.closed = False
        self.noise = np.random.default_rng(0)

    def run(self, inputs: Batch) -> Batch:
        return self.function(inputs["x"])

    def time(self, inputs: Batch, *, seconds: float, at_least: int) -> list[int]:
        laps: list[int] = []
        while len(laps) < at_least or sum(laps) < seconds * 1e9:
            self.calls += 1
            if self.dies_after is not None and self.calls > self.dies_after:
                raise HostError("the process died", hint="look at its log")
            laps.append(int(self.seconds * 1e9 * self.noise.lognormal(0, 0.01)))
        return laps

    def peak_memory(self) -> int:
        return 123_000_000

    def close(self) -> None:
        self.closed = True


class NumpyHost(Host):
    """Hands out sessions whose calls take as long as the model file says; ``0.001 dies 40`` dies at the 41st call."""

    def open(self, model: Path, runtime: str, settings: RuntimeSettings) -> Session:
        words = model.read_text(encoding="utf-8").split()
        if words[0] == "broken":
            raise HostError("the runtime does not start", hint="edgekit doctor")
        session = NumpySession(lambda x: {"y": x}, seconds=float(words[0]), dies_after=int(words[2]) if "dies" in words else None)
        OPENED.append(session)
        return session


OPENED: list[NumpySession] = []


@pytest.fixture
def arrays() -> type[ArrayData]:
    return ArrayData


@pytest.fixture
def numpy_session() -> type[NumpySession]:
    return NumpySession


@pytest.fixture
def numpy_host() -> NumpyHost:
    OPENED.clear()
    return NumpyHost()


@pytest.fixture
def opened() -> list[NumpySession]:
    return OPENED
