"""Texts in another language: BLEU and chrF of the whole set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.algorithms import text_overlap
from edgekit.algorithms.text_overlap import BLEU_COUNTS
from edgekit.tasks._written import WrittenText


class Translation(WrittenText):
    """Corpus BLEU and chrF2 in percent, with sacreBLEU's defaults (tokenization 13a, mixed case, exponential smoothing).

    chrF2 is what budgets speak of: it follows people's judgement more closely than BLEU (Freitag et al. 2022), and does not fall to
    zero where a short set shares no four words.
    """

    primary = "chrf"

    def counts(self, written: str, references: Sequence[str]) -> np.ndarray:
        """Counts of n-grams of words and of characters [28]."""
        return np.concatenate([text_overlap.bleu_counts(written, references), text_overlap.chrf_counts(written, references)])

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Both scores, of all texts together."""
        sums = observations[:, :-1].sum(axis=0)
        return {"chrf": text_overlap.chrf(sums[BLEU_COUNTS:]), "bleu": text_overlap.bleu(sums[:BLEU_COUNTS])}
