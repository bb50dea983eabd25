"""The samples that choices are judged on: apart from those that find ranges, and never the evaluation set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core import digest
from edgekit.core.datasets import DataSet
from edgekit.core.errors import QuantizationError

if TYPE_CHECKING:
    from edgekit.core.artifacts import Batch
    from edgekit.core.plugin import Context

EVERY = 4
"""One sample in four is held out of a calibration set."""
MOST = 400
"""Samples that judge at most; each runs through every assignment that is tried."""
BYTES = 200_000_000
"""Samples held in memory at most."""


class Part(DataSet):
    """Some samples of a set, told by their places."""

    def __init__(self, whole: DataSet, places: Sequence[int], name: str) -> None:
        self.name = name
        self.classes = whole.classes
        self._whole = whole
        self._places = places

    @property
    def digest(self) -> str:
        """SHA-256 over the whole set's digest and the places."""
        return digest.of_json([self._whole.digest, list(self._places)])

    @property
    def provenance(self) -> dict[str, Any]:
        """That of the whole set, with the number of samples."""
        return {**self._whole.provenance, "name": self.name, "samples": len(self)}

    def __len__(self) -> int:
        return len(self._places)

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield inputs with their labels; at most ``limit`` samples, spread evenly."""
        count = len(self) if limit is None else min(limit, len(self))
        wanted = {self._places[index * len(self) // count] for index in range(count)}
        singles = (sample for place, sample in enumerate(self._whole.batches(1)) if place in wanted)
        while group := list(islice(singles, size)):
            yield {name: np.concatenate([inputs[name] for inputs, _ in group]) for name in group[0][0]}, [y for _, ys in group for y in ys]

    def sample_digests(self) -> Iterator[str]:
        """Yield the SHA-256 of each sample."""
        yield from self._chosen(self._whole.sample_digests())

    def metadata(self) -> list[dict[str, str]]:
        """Further columns of each sample."""
        return list(self._chosen(self._whole.metadata()))

    def _chosen(self, every: Any) -> Iterator[Any]:
        wanted = set(self._places)
        return (item for place, item in enumerate(every) if place in wanted)


def divided(context: Context) -> tuple[DataSet | None, DataSet]:
    """Return the samples that find ranges and those that judge.

    A training set judges with those of its samples that don't calibrate; without one, every fourth calibration sample is held out.

    Raises:
        QuantizationError: there is nothing to judge on.
    """
    calibration, training = context.calibration, context.training
    if training is not None:
        seen = set(calibration.sample_digests()) if calibration else set()
        share = (MOST + len(seen)) / len(training)  # the same seed may have chosen the samples that calibrate
        part = training.parted(share, context.seed)[1] if share < 1 else training
        places = [place for place, sample in enumerate(part.sample_digests()) if sample not in seen][:MOST]
        if places:
            return calibration, Part(part, places, f"{training.name}, {len(places)} that calibration did not see")
    if calibration is None or len(calibration) < EVERY:
        raise QuantizationError(
            "accuracy-aware precision has no samples to judge on", hint="name a calibration set of some hundred samples, or a training set"
        )
    held_out = range(EVERY - 1, len(calibration), EVERY)
    rest = [place for place in range(len(calibration)) if place % EVERY != EVERY - 1]
    return Part(calibration, rest, calibration.name), Part(calibration, held_out, f"{calibration.name}, every fourth, held out")


def in_memory(data: DataSet) -> list[tuple[Batch, Any]]:
    """Return the samples that judge, as many as memory allows, spread evenly over the set, each with its label."""
    first = next(data.batches(1, limit=1))[0]
    count = max(1, min(MOST, len(data), BYTES // max(1, sum(array.nbytes for array in first.values()))))
    return [(inputs, labels[0]) for inputs, labels in data.batches(1, limit=count)]
