"""Which token comes next: the likeliest, or one drawn from what temperature, top-k and top-p leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .contract import RunnerError

OPTIONS = ("new_tokens", "temperature", "top_k", "top_p", "seed", "stop")


class Sampler:
    """Chooses tokens by their scores.

    Args:
        options: ``temperature`` (0: always the likeliest), ``top_k`` (0: all), ``top_p`` (1: all), ``seed``.

    Raises:
        RunnerError: ``input``: an unknown or impossible option.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise RunnerError("input", f"unknown option {unknown[0]!r} of generation", f"known: {', '.join(OPTIONS)}")
        self.temperature = float(options.get("temperature", 0.0))
        self.top_k = int(options.get("top_k", 0))
        self.top_p = float(options.get("top_p", 1.0))
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise RunnerError("input", "temperature and top_k are 0 or more, top_p lies above 0 and up to 1")
        self._random = np.random.default_rng(int(options.get("seed", 0)))

    def choose(self, scores: np.ndarray) -> int:
        """Return a token for scores [V]."""
        if self.temperature == 0:
            return int(scores.argmax())
        shares = np.cumsum(self.probabilities(scores))
        return min(int(np.searchsorted(shares, self._random.random() * shares[-1], side="right")), len(scores) - 1)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities [V] to draw from: softmax at the temperature, of the ``top_k`` likeliest, of these the fewest to reach ``top_p``.

        Reference: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration" (arXiv:1904.09751), for top-p.
        """
        wide = scores.astype(np.float64) / self.temperature
        if 0 < self.top_k < len(wide):
            wide = np.where(wide < np.sort(wide)[-self.top_k], -np.inf, wide)
        shares = _softmax(wide)
        if self.top_p < 1:
            order = np.argsort(-shares, kind="stable")
            before = np.cumsum(shares[order]) - shares[order]
            shares[order[before >= self.top_p]] = 0.0
            shares /= shares.sum()
        return shares


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())
