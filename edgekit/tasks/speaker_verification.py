"""Whether two recordings are of one voice, told by a network that gives an embedding of each: equal error rate."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.scores import class_indices, finite, pick
from edgekit.algorithms.similarities import cosines
from edgekit.algorithms.verification import Trials
from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError
from edgekit.core.figures import Draw, Figures
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

SPEAKER, IDENTITY, FIRST = range(3)
"""Speaker, number of the recording, and the first column of its embedding."""
_SPEAKERS = 1 << 31
_TEMPERATURE = 0.1


class SpeakerVerification(Task):
    """Share of pairs that are judged rightly where as many are wrongly accepted as refused (``accuracy_at_EER``, 100 - EER), in percent.

    Every pair of recordings is a trial, scored by the cosine of their embeddings. Labels are speakers; for an honest figure they are
    speakers that training never heard. Resampling draws recordings, with all the trials they take part in.
    """

    primary = "accuracy_at_EER"

    output: str | None = Field(None, description="Output with the embedding; needed only where the model has several.")

    def loss(self, outputs: Mapping[str, torch.Tensor], labels: Sequence[Any]) -> torch.Tensor:
        """Supervised contrastive loss: recordings of one speaker in a batch attract each other, those of others repel.

        Reference: Khosla et al. 2020, "Supervised Contrastive Learning" (arXiv:2004.11362), equation 2.

        Raises:
            DataError: no labels.
        """
        import torch

        embeddings = torch.nn.functional.normalize(outputs[pick(outputs, self.output)], dim=1)
        speakers = torch.from_numpy(class_indices(labels, _SPEAKERS)).to(embeddings.device)
        own = torch.eye(len(speakers), dtype=torch.bool, device=embeddings.device)
        likely = (embeddings @ embeddings.T / _TEMPERATURE).masked_fill(own, -1e9).log_softmax(dim=1)
        same = (speakers[:, None] == speakers[None, :]) & ~own
        paired = same.any(dim=1)
        return -(likely * same).sum(dim=1)[paired].div(same.sum(dim=1)[paired]).sum() / paired.sum().clamp_min(1)

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """One minus the cosine between a student's and its teacher's embeddings."""
        import torch

        name = pick(taught, self.output)
        return 1 - torch.nn.functional.cosine_similarity(outputs[name], taught[name], dim=1).mean()

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return speaker, a number that tells recordings apart, and embedding: [N, 2 + D].

        Raises:
            DataError: outputs that are no embeddings, or no labels.
        """
        name = pick(outputs, self.output)
        embeddings = finite(outputs[name], name)
        if embeddings.ndim != 2 or len(embeddings) != len(labels):
            raise DataError(
                f"output {name!r} is {list(embeddings.shape)}, an embedding network gives [{len(labels)}, size]",
                hint="choose another output or task; task: generic compares any outputs",
            )
        speakers = class_indices(labels, _SPEAKERS)
        identities = [zlib.crc32(row.tobytes()) for row in np.ascontiguousarray(embeddings)]
        return np.concatenate([np.stack([speakers, identities], axis=1), embeddings], axis=1)

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """100 - EER, EER, and the least detection cost at 5 % targets, in percent; chance where no two recordings can be compared."""
        errors = _trials(observations).of(np.ones(len(observations)))
        return {"accuracy_at_EER": 100 - 100 * errors.equal, "EER": 100 * errors.equal, "minDCF": 100 * errors.cost}

    def figures(self, observations: np.ndarray) -> Draw:
        """100 - EER of a draw of recordings."""
        trials = _trials(observations)
        return lambda counts: Figures(100 - 100 * trials.of(counts).equal)

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """The speaker of the nearest other recording."""
        near = cosines(observations[:, FIRST:])
        np.fill_diagonal(near, -np.inf)
        return np.asarray(observations[near.argmax(axis=1), SPEAKER], np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a trial takes two recordings, often of two speakers."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: trials are right or wrong, not recordings."""
        return None


def _trials(observations: np.ndarray) -> Trials:
    return Trials(observations[:, FIRST:], observations[:, SPEAKER], observations[:, IDENTITY])
