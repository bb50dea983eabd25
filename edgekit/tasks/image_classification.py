"""One class a picture: top-1 and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.algorithms.metrics import label_ranks
from edgekit.algorithms.scores import class_indices, class_scores
from edgekit.core.artifacts import Batch
from edgekit.tasks._classes import CLASSES, OfClasses

RANK = 3
FEWEST_FOR_TOP5 = 10


class ImageClassification(OfClasses):
    """Accuracy in percent; top-5 is reported from ten classes on, below which it says little."""

    primary = "top1"
    reading = "softmax"

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return label, predicted class, number of classes, and place of the label among the scores: [N, 4].

        Raises:
            DataError: outputs that are no class scores, or a label beyond the classes.
        """
        scores = class_scores(outputs, self.output, len(labels))
        ranks = label_ranks(scores, class_indices(labels, scores.shape[1]))
        return np.column_stack([super().observe(outputs, labels, original), ranks])

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Top-1 and, from ten classes on, top-5 accuracy in percent."""
        ranks = observations[:, RANK]
        found = {"top1": float((ranks < 1).mean() * 100)}
        if observations[0, CLASSES] >= FEWEST_FOR_TOP5:
            found["top5"] = float((ranks < 5).mean() * 100)
        return found

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """Whether each picture's class was predicted."""
        return np.asarray(observations[:, RANK] < 1)
