"""One class a recording: accuracy and macro F1."""

from __future__ import annotations

import numpy as np

from edgekit.algorithms.metrics import f1_scores
from edgekit.tasks._classes import CLASSES, LABEL, PREDICTION, OfClasses


class AudioClassification(OfClasses):
    """Accuracy, and the mean F1 of the classes that occur, in percent: keywords, commands, languages, sounds."""

    primary = "accuracy"
    auto_class = "AutoModelForAudioClassification"

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Accuracy and macro F1 in percent."""
        labels, predictions = observations[:, LABEL].astype(np.int64), observations[:, PREDICTION].astype(np.int64)
        scores = f1_scores(labels, predictions, int(observations[0, CLASSES]))
        return {"accuracy": 100 * float(np.mean(labels == predictions)), "macro_f1": 100 * float(np.nanmean(scores))}
