"""How well scores tell pairs of one kind from pairs of two: equal error rate and detection cost, quickly for any resample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.algorithms.similarities import cosines

TARGETS = 0.05
"""Share of pairs of one kind for which the detection cost is computed, as in VoxSRC."""


@dataclass(frozen=True)
class Errors:
    """Error rates of one draw, in 0..1.

    Attributes:
        equal: the rate at which as many pairs are wrongly accepted as wrongly refused.
        cost: the least detection cost over all thresholds, relative to that of accepting all or none.
    """

    equal: float
    cost: float


class Trials:
    """All pairs of a set, sorted by their score once; a draw weighs each pair by how often its two samples were drawn.

    Args:
        embeddings: one vector a sample [N, D].
        kinds: who or what each sample is of [N].
        identities: number of each sample [N]; pairs of one number are the same sample drawn twice and don't count.
    """

    def __init__(self, embeddings: np.ndarray, kinds: np.ndarray, identities: np.ndarray) -> None:
        first, second = np.triu_indices(len(embeddings), 1)
        differ = (identities[first] != identities[second]) | (kinds[first] != kinds[second])
        first, second = first[differ], second[differ]
        scores = cosines(embeddings)[first, second]
        order = np.argsort(-scores, kind="stable")
        self._first, self._second, ordered = first[order], second[order], scores[order]
        self._same = kinds[self._first] == kinds[self._second]
        self._last = np.append(ordered[1:] != ordered[:-1], True) if len(ordered) else np.zeros(0, bool)

    def of(self, counts: np.ndarray) -> Errors:
        """Compute the errors of a draw, given how often each sample [N] is in it; chance where pairs of one sort are missing."""
        weights = (counts[self._first] * counts[self._second]).astype(np.float64)
        accepted = np.cumsum(weights)[self._last]
        hits = np.cumsum(np.where(self._same, weights, 0.0))[self._last]
        targets, others = (hits[-1], accepted[-1] - hits[-1]) if len(hits) else (0.0, 0.0)
        if not targets or not others:
            return Errors(0.5, 1.0)
        false = np.concatenate([[0.0], (accepted - hits) / others])
        missed = np.concatenate([[1.0], 1 - hits / targets])
        cost = float((TARGETS * missed + (1 - TARGETS) * false).min() / min(TARGETS, 1 - TARGETS))
        ahead = missed - false
        crossed = int(np.argmax(ahead <= 0))
        step = ahead[crossed - 1] / (ahead[crossed - 1] - ahead[crossed])
        return Errors(float(false[crossed - 1] + step * (false[crossed] - false[crossed - 1])), cost)
