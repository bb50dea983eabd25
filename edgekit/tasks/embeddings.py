"""Vectors whose angles tell how alike texts (or pictures) are: whether compression keeps what is like what."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.metrics import cosine_similarity
from edgekit.algorithms.scores import finite, pick
from edgekit.algorithms.similarities import Similarities, cosines
from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError
from edgekit.core.figures import Draw, Figures
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

IDENTITY, COSINE, FIRST = range(3)
"""Number of the sample, cosine to the original's vector, and the first column of the two vectors, its own and the original's."""


class Embeddings(Task):
    """Spearman's correlation between the similarities of all pairs of samples and those in the original's space, in percent.

    The original itself scores 100. It needs no labels: what was alike must stay alike, in the same order. Beside it the mean cosine between
    each sample's vector and the original's. Resampling draws samples, with all the pairs they take part in.
    """

    primary = "spearman"
    labelled = False
    dynamic_int8 = frozenset({"onnx", "tflite"})
    auto_class = "AutoModel"

    output: str | None = Field(None, description="Output with the embedding; needed only where the model has several.")

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """One minus the cosine between a student's and its teacher's vectors."""
        import torch

        name = pick(taught, self.output)
        return 1 - torch.nn.functional.cosine_similarity(outputs[name], taught[name], dim=1).mean()

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return a number that tells samples apart, cosine in percent, and both vectors: [N, 2 + 2 D].

        Raises:
            DataError: outputs that are no vectors, or another size than the original's.
        """
        name = pick(original, self.output)
        mine, theirs = finite(outputs[pick(outputs, name)], name), finite(original[name], name)
        if mine.ndim != 2 or mine.shape != theirs.shape or len(mine) != len(labels):
            raise DataError(
                f"output {name!r} is {list(mine.shape)}, an embedding model gives [{len(labels)}, size], as its original does",
                hint="pool tokens in the model: a sentence-transformers folder says how; task: generic compares any outputs",
            )
        identities = [zlib.crc32(row.tobytes()) for row in np.ascontiguousarray(theirs)]
        return np.concatenate([np.stack([identities, 100 * cosine_similarity(mine, theirs)], axis=1), mine, theirs], axis=1)

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Rank correlation of similarities and mean cosine in percent."""
        once = np.ones(len(observations))
        return {"spearman": 100 * _similarities(observations).spearman(once), "cosine": float(observations[:, COSINE].mean())}

    def figures(self, observations: np.ndarray) -> Draw:
        """Rank correlation in a draw of samples."""
        similarities = _similarities(observations)
        return lambda counts: Figures(100 * similarities.spearman(counts))

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """Which other sample is nearest, by its place in the set."""
        near = cosines(_spaces(observations)[0])
        np.fill_diagonal(near, -np.inf)
        return np.asarray(near.argmax(axis=1))

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: there are no classes."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: without labels nothing is right or wrong."""
        return None


def _spaces(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = (observations.shape[1] - FIRST) // 2
    return observations[:, FIRST : FIRST + size], observations[:, FIRST + size :]


def _similarities(observations: np.ndarray) -> Similarities:
    return Similarities(*_spaces(observations), observations[:, IDENTITY])
