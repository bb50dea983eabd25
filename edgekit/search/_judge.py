"""What an assignment loses, told on samples that neither calibrated nor evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.algorithms.sensitivity import Noise

if TYPE_CHECKING:
    from edgekit.core.artifacts import Batch
    from edgekit.core.plugin import Session, Task

Opened = Callable[[Path], "Session"]
"""Loads a model file in the runtime that it is for."""

ONE_SIDED = 1.645
"""Standard errors to the upper end of a one-sided 95 % interval."""
NOISE_SAMPLES = 16
"""Samples that tell a layer's noise."""


class Judge:
    """Holds what the float model says of the samples, and compares others with it.

    With labels, what is lost is the difference in the task's primary metric; and, since that counts a handful of changed predictions, at
    least what the float model's own probabilities let expect: the upper end of its 95 % interval, for the samples are few. Without
    labels, or where one sample alone would break the budget, it is the latter.

    Attributes:
        samples: how many there are.
        labelled: whether their labels count.
    """

    def __init__(self, task: Task, data: Sequence[tuple[Batch, Any]], float_model: Path, opened: Opened, max_drop: float) -> None:
        self._task = task
        self._inputs = [inputs for inputs, _ in data]
        self._labels = [label for _, label in data]
        self._opened = opened
        self._expected = self._outputs(float_model, range(len(data)))
        self.samples = len(data)
        known = not task.labelled or all(label is not None for label in self._labels)
        self.labelled = known and (not task.labelled or self.samples * max_drop >= 100)
        self._metric = self._measured(self._expected) if self.labelled else 0.0

    def drop(self, model: Path) -> float:
        """Points of the primary metric that a model loses against the float model; infinite where its outputs are not finite."""
        outputs = self._outputs(model, range(self.samples))
        if not all(np.isfinite(array).all() for found in outputs for array in found.values() if array.dtype.kind == "f"):
            return float("inf")
        likely = self._likely(outputs)
        return max(self._metric - self._measured(outputs), likely) if self.labelled else likely

    def noise(self, model: Path) -> float:
        """Noise power of a model's float outputs relative to the signal's."""
        noise = Noise()
        count = min(NOISE_SAMPLES, self.samples)
        places = [place * self.samples // count for place in range(count)]
        for place, found in zip(places, self._outputs(model, places), strict=True):
            expected = self._expected[place]
            floats = [name for name, array in expected.items() if array.dtype.kind == "f"]
            noise.add([expected[name] for name in floats], [found[name] for name in floats])
        return noise.power

    def _outputs(self, model: Path, places: Iterable[int]) -> list[Batch]:
        with self._opened(model) as session:
            return [session.run(self._inputs[place]) for place in places]

    def _measured(self, outputs: Sequence[Batch]) -> float:
        rows = [
            self._task.observe(found, [label], expected)
            for found, label, expected in zip(outputs, self._labels, self._expected, strict=True)
        ]
        return self._task.metrics(np.concatenate(rows))[self._task.primary]

    def _likely(self, outputs: Sequence[Batch]) -> float:
        """What is likely lost at most."""
        losses = self._losses(outputs)
        return float(losses.mean() + ONE_SIDED * losses.std() / np.sqrt(len(losses)))

    def _losses(self, outputs: Sequence[Batch]) -> np.ndarray:
        """What each sample likely loses, of all at once where their outputs have one shape."""
        shapes = {tuple(array.shape for array in expected.values()) for expected in self._expected}
        if len(shapes) == 1:
            found, expected = ({name: np.concatenate([b[name] for b in side]) for name in side[0]} for side in (outputs, self._expected))
            return self._task.likely_losses(found, expected)
        return np.concatenate([self._task.likely_losses(found, expected) for found, expected in zip(outputs, self._expected, strict=True)])
