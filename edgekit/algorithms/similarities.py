"""How closely one space of embeddings follows another: rank correlation of the similarities of all pairs, quickly for any resample."""

from __future__ import annotations

import numpy as np


class Similarities:
    """All pairs of a set with their cosine in two spaces, ranked once; a draw weighs each pair by how often its two samples were drawn.

    Args:
        first: one vector a sample [N, D].
        second: vectors of the same samples in another space [N, E].
        identities: number of each sample [N]; pairs of one number are the same sample drawn twice and don't count.
    """

    def __init__(self, first: np.ndarray, second: np.ndarray, identities: np.ndarray) -> None:
        left, right = np.triu_indices(len(first), 1)
        differ = identities[left] != identities[right]
        self._left, self._right = left[differ], right[differ]
        self._ranked = [_Ranks(cosines(space)[self._left, self._right]) for space in (first, second)]

    def spearman(self, counts: np.ndarray) -> float:
        """Spearman's rank correlation in a draw, given how often each sample [N] is in it; 0 where there is nothing to rank.

        Reference: Spearman 1904, "The Proof and Measurement of Association between Two Things"; ties have their mean rank.
        """
        weights = (counts[self._left] * counts[self._right]).astype(np.float64)
        total = weights.sum()
        if not total:
            return 0.0
        a, b = (ranked.of(weights) for ranked in self._ranked)
        a, b = a - (weights @ a) / total, b - (weights @ b) / total
        spread = (weights @ (a * a)) * (weights @ (b * b))
        return float((weights @ (a * b)) / np.sqrt(spread)) if spread > 0 else 0.0


class _Ranks:
    """Values in order, equal ones together."""

    def __init__(self, values: np.ndarray) -> None:
        _, self._place = np.unique(values, return_inverse=True)
        self._places = int(self._place.max(initial=-1)) + 1

    def of(self, weights: np.ndarray) -> np.ndarray:
        """Rank of each value when it stands there as often as its weight says."""
        held = np.bincount(self._place, weights, minlength=self._places)
        return np.asarray((np.cumsum(held) - held + (held + 1) / 2)[self._place])


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Cosine of every pair of rows [N, D]: [N, N]; 0 for rows of zeros."""
    directions = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return np.asarray(directions @ directions.T)
