"""What the tasks share whose models give scores of classes, one row a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.scores import class_indices, class_scores, cross_entropy, likely_losses, pick, softened_divergence
from edgekit.core.artifacts import Batch
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

LABEL, PREDICTION, CLASSES = range(3)


class OfClasses(Task):
    """One class a sample; a task adds its metrics."""

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
        """Return label, predicted class and number of classes: [N, 3].

        Raises:
            DataError: outputs that are no class scores, or a label beyond the classes.
        """
        scores = class_scores(outputs, self.output, len(labels))
        truth = class_indices(labels, scores.shape[1])
        return np.stack([truth, scores.argmax(axis=1), np.full(len(truth), scores.shape[1])], axis=1).astype(np.float64)

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """Predicted class of each sample."""
        return observations[:, PREDICTION].astype(np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """True class of each sample."""
        return observations[:, LABEL].astype(np.int64)

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """Whether each sample's class was predicted."""
        return np.asarray(observations[:, LABEL] == observations[:, PREDICTION])
