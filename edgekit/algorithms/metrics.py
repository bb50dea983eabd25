"""The figures by which models are judged, on arrays: the same definitions as scikit-learn's, quick enough for thousands of resamples."""

from __future__ import annotations

import numpy as np


def label_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Place of the true class in each row's order, 0 for the top; of equal logits the lower class comes first, as in ``argmax``.

    Args:
        logits: [N, classes].
        labels: class indices [N].

    Returns:
        int64 [N]; a prediction is right in the top k where the place is below k.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]
    return np.asarray(((logits > own) | ((logits == own) & earlier)).sum(axis=1), np.int64)


def f1_scores(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """F1 of each class, ``2 TP / (2 TP + FP + FN)``; NaN where a class stands in neither labels nor predictions.

    Args:
        labels: class indices [N].
        predictions: class indices [N].
        classes: number of classes.

    Returns:
        float64 [classes], in 0..1.
    """
    hits = np.bincount(labels[labels == predictions], minlength=classes)
    seen = np.bincount(labels, minlength=classes) + np.bincount(predictions, minlength=classes)
    scores = np.full(classes, np.nan)
    np.divide(2.0 * hits, seen, out=scores, where=seen > 0)
    return scores


def cosine_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine between rows [N, D] of two arrays; 1 for two zero rows, 0 for one."""
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = norms[0] * norms[1]
    cosine = np.divide((a * b).sum(axis=1), product, out=np.zeros(len(a)), where=product > 0)
    cosine[(norms[0] == 0) & (norms[1] == 0)] = 1.0
    return np.asarray(np.clip(cosine, -1.0, 1.0))


def softmax_divergence(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence ``KL(softmax(reference) || softmax(other))`` along the last axis, in nats.

    Args:
        reference: [..., C].
        other: [..., C].

    Returns:
        float64 [...], never negative.
    """
    log_p, log_q = _log_softmax(reference), _log_softmax(other)
    return np.asarray(np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=-1), 0.0))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
