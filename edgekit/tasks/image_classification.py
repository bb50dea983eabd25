"""One class a picture: top-1 and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.metrics import label_ranks
from edgekit.algorithms.scores import class_indices, class_scores, cross_entropy, likely_losses, pick, softened_divergence
from edgekit.core.artifacts import Batch
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

LABEL, PREDICTION, RANK, CLASSES = range(4)
FEWEST_FOR_TOP5 = 10


class ImageClassification(Task):
    """Accuracy in percent; top-5 is reported from ten classes on, below which it says little."""

    primary = "top1"
    reading = "softmax"

    output: str | None = Field(None, description="Output with the class scores; needed only where the model has several.")

    def loss(self, outputs: Mapping[str, torch.Tensor], labels: Sequence[Any]) -> torch.Tensor:
        """Cross-entropy.

        Raises:
            DataError: no labels, or one beyond the classes.
        """
        return cross_entropy(outputs, self.output, labels)

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """Divergence of softened class distributions (Hinton et al. 2015, arXiv:1503.02531)."""
        return softened_divergence(outputs, taught, self.output, temperature)

    def likely_losses(self, outputs: Batch, original: Batch) -> np.ndarray:
        """Probability that changed predictions lose, by the original's own probabilities, in points."""
        name = pick(original, self.output)
        return likely_losses(outputs[name], original[name])

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return label, predicted class, place of the label among the scores, and number of classes: [N, 4].

        Raises:
            DataError: outputs that are no class scores, or a label beyond the classes.
        """
        scores = class_scores(outputs, self.output, len(labels))
        truth = class_indices(labels, scores.shape[1])
        return np.stack([truth, scores.argmax(axis=1), label_ranks(scores, truth), np.full(len(truth), scores.shape[1])], axis=1).astype(
            np.float64
        )

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Top-1 and, from ten classes on, top-5 accuracy in percent."""
        ranks = observations[:, RANK]
        found = {"top1": float((ranks < 1).mean() * 100)}
        if observations[0, CLASSES] >= FEWEST_FOR_TOP5:
            found["top5"] = float((ranks < 5).mean() * 100)
        return found

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """Predicted class of each picture."""
        return observations[:, PREDICTION].astype(np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """True class of each picture."""
        return observations[:, LABEL].astype(np.int64)

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """Whether each picture's class was predicted."""
        return np.asarray(observations[:, RANK] < 1)
