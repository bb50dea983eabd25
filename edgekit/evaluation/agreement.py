"""How close a model's outputs are to the original's, label or no label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.algorithms.metrics import cosine_similarity, softmax_divergence
from edgekit.core.errors import DataError
from edgekit.core.report import Agreement
from edgekit.evaluation.accuracy import output_file, output_names
from edgekit.evaluation.rows import side_by_side

_LEAST = 1e-7
"""Probability taken for a class that quantization rounded to nothing, so that the divergence stays finite."""


def agree(original: Path, candidate: Path, classifier: bool) -> Agreement:
    """Compare the raw outputs of two observed folders, a few rows at a time.

    Args:
        original: folder that observing the original filled.
        candidate: folder that observing the candidate filled.
        classifier: whether the first output holds scores of classes, so that a divergence makes sense.

    Returns:
        The mean cosine similarity over samples and outputs, the largest absolute difference, and for classifiers the mean Kullback-Leibler
        divergence of the candidate's class probabilities from the original's (Kullback & Leibler 1951), in nats.

    Raises:
        DataError: the folders hold different outputs or numbers of samples.
    """
    names = output_names(original)
    if output_names(candidate) != names:
        raise DataError("the two models were observed with different outputs", hint="observe the candidate again")
    cosines, largest, divergences, samples = 0.0, 0.0, 0.0, 0
    with_classes = False
    for number, name in enumerate(names):
        samples = 0
        for first, second in side_by_side(output_file(original, name), output_file(candidate, name)):
            a = first.reshape(len(first), -1).astype(np.float64)
            b = second.reshape(len(second), -1).astype(np.float64)
            cosines += float(np.sum(cosine_similarity(a, b)))
            largest = max(largest, float(np.max(np.abs(a - b), initial=0.0)))
            if classifier and number == 0 and first.ndim == 2 and first.shape[1] > 1:
                with_classes = True
                divergences += float(np.sum(_divergence(a, b)))
            samples += len(first)
    if not samples:
        raise DataError("no sample was observed", hint="choose a set or a split with samples")
    return Agreement(
        samples=samples,
        cosine=cosines / (samples * len(names)),
        max_error=largest,
        kl=divergences / samples if with_classes else None,
    )


def _divergence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Divergence of b's rows from a's; both are taken for probabilities when a's rows look like some, else for logits."""
    if np.all(a >= 0) and np.allclose(a.sum(axis=1), 1.0, atol=1e-2):
        a, b = np.log(np.maximum(a, _LEAST)), np.log(np.maximum(b, _LEAST))
    return softmax_divergence(a, b)
