"""The self-test of a bundle: real inputs, and what the model answers to them in its runtime here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.core.artifacts import TensorSpec
from edgekit.core.datasets import DataSet
from edgekit.core.errors import DataError
from edgekit.core.plugin import RuntimeSettings
from edgekit.runner import protocol
from edgekit.sessions import open_session

_BYTES_LIMIT = 64 << 20
"""A test may not weigh more than models do."""


@dataclass(frozen=True)
class Facts:
    """What running the model here showed."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    runtime_version: str
    count: int
    sample: dict[str, tuple[int, ...]]


def record(model: Path, runtime: str, settings: RuntimeSettings, data: DataSet, count: int) -> tuple[bytes, Facts]:
    """Run samples that are spread over a set, and write inputs and outputs as frames of the runner's protocol.

    Raises:
        DataError: no sample.
        SourceError: the model does not load or run.
    """
    frames: list[bytes] = []
    with open_session(model, runtime, settings, fresh=False) as session:
        shapes: dict[str, tuple[int, ...]] = {}
        for inputs, _ in data.batches(1, limit=count):
            frames += [b"".join(map(bytes, protocol.pack({}, arrays))) for arrays in (inputs, session.run(inputs))]
            shapes = {name: array.shape for name, array in inputs.items()}
            if sum(map(len, frames)) > _BYTES_LIMIT:
                break
        facts = Facts(session.inputs, session.outputs, str(session.circumstances["version"]), len(frames) // 2, shapes)
    if not frames:
        raise DataError("a self-test needs a sample", hint="name a set with samples in the recipe")
    return b"".join(frames), facts
