"""Models without labels, or of a kind no task knows: how closely the outputs follow the original's."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.metrics import cosine_similarity, softmax_divergence
from edgekit.algorithms.scores import finite, pick
from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError
from edgekit.core.plugin import Task

COSINE, LARGEST, MEAN, DIVERGENCE, DECISION = range(5)


class Generic(Task):
    """Similarity to the original: the original itself scores 100, so a drop of one point is a mean cosine of 0.99.

    A sample's outputs are laid end to end for cosine and errors. The divergence is that of the softmax along each output's last
    axis, which means something where outputs are logits. What counts as a changed prediction is any changed arg-max along the last
    axis (any changed sign, where that axis has one element).
    """

    primary = "cosine"
    labelled = False

    output: str | None = Field(None, description="Compare only this output; all of them where left out.")

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return cosine, largest and mean absolute error, divergence and a code for the decision: [N, 5].

        Raises:
            DataError: outputs that differ from the original's in name or shape, or are not finite.
        """
        names = [pick(original, self.output)] if self.output else sorted(original)
        mine, theirs = ([_pair(outputs, original, name)[side] for name in names] for side in (0, 1))
        flat = np.concatenate([value.reshape(len(value), -1) for value in mine], axis=1)
        wanted = np.concatenate([value.reshape(len(value), -1) for value in theirs], axis=1)
        error = np.abs(flat - wanted)
        divergence = np.mean([_per_sample(softmax_divergence(b, a)) for a, b in zip(mine, theirs, strict=True)], axis=0)
        return np.stack(
            [cosine_similarity(flat, wanted) * 100, error.max(axis=1), error.mean(axis=1), divergence, _decisions(mine)], axis=1
        )

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Mean cosine in percent, largest and mean absolute error in the outputs' unit, mean divergence in nats."""
        return {
            "cosine": float(observations[:, COSINE].mean()),
            "max_error": float(observations[:, LARGEST].max()),
            "mean_error": float(observations[:, MEAN].mean()),
            "kl": float(observations[:, DIVERGENCE].mean()),
        }

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number that changes when any decision of a sample changes."""
        return observations[:, DECISION].astype(np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: there are no classes."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: without labels nothing is right or wrong."""
        return None


def _pair(outputs: Batch, original: Batch, name: str) -> tuple[np.ndarray, np.ndarray]:
    mine, theirs = np.asarray(outputs[pick(outputs, name)]), np.asarray(original[name])
    if mine.shape != theirs.shape or mine.ndim == 0:
        raise DataError(
            f"output {name!r} is {list(mine.shape)}, the original's is {list(theirs.shape)}",
            hint="compare a model with what it was made from",
        )
    return tuple(finite(value if value.ndim > 1 else value[:, None], name) for value in (mine, theirs))  # type: ignore[return-value]


def _per_sample(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.reshape(len(values), -1).mean(axis=1))


def _decisions(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """One number a sample for the decisions in it: the class of a lone [N, C] output, else a checksum of all of them."""
    choices = [np.signbit(value[..., 0]) if value.shape[-1] == 1 else value.argmax(axis=-1) for value in outputs]
    if len(choices) == 1 and choices[0].ndim == 1:
        return np.asarray(choices[0], np.float64)
    rows = np.concatenate([choice.reshape(len(choice), -1).astype(np.int64) for choice in choices], axis=1)
    return np.array([zlib.crc32(row.tobytes()) for row in rows], np.float64)
