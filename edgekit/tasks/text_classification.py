"""One class a text or pair of texts: accuracy and F1."""

from __future__ import annotations

import numpy as np

from edgekit.algorithms.metrics import f1_scores
from edgekit.tasks._classes import CLASSES, LABEL, PREDICTION, OfClasses


class TextClassification(OfClasses):
    """Accuracy and F1 in percent: ``f1`` of class 1 for two classes (as GLUE does), ``macro_f1`` over the classes that occur for more.

    int8 means dynamic in ONNX and TFLite: static ranges ruin transformers there, whose activations have outliers (Bondarenko et al. 2021,
    arXiv:2109.12948). OpenVINO's static quantizer knows transformers and is both faster and as accurate.
    """

    primary = "accuracy"
    reading = "softmax"
    dynamic_int8 = frozenset({"onnx", "tflite"})
    auto_class = "AutoModelForSequenceClassification"

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Accuracy and F1 in percent."""
        rows = observations.astype(np.int64)
        labels, predictions, classes = rows[:, LABEL], rows[:, PREDICTION], int(rows[0, CLASSES])
        scores = f1_scores(labels, predictions, classes)
        f1 = {"f1": float(np.nan_to_num(scores[1]) * 100)} if classes == 2 else {"macro_f1": float(np.nanmean(scores) * 100)}
        return {"accuracy": float((labels == predictions).mean() * 100), **f1}
