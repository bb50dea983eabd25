"""Summaries: ROUGE, the mean over texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.algorithms.text_overlap import rouge
from edgekit.tasks._written import WrittenText


class Summarization(WrittenText):
    """F-scores of ROUGE-1, ROUGE-2 and ROUGE-L in percent, without stemming; of several references the best counts."""

    primary = "rougeL"

    def counts(self, written: str, references: Sequence[str]) -> np.ndarray:
        """The three scores."""
        return rouge(written, references)

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Means over texts."""
        means = observations[:, :3].mean(axis=0)
        return {"rouge1": float(means[0]), "rouge2": float(means[1]), "rougeL": float(means[2])}
