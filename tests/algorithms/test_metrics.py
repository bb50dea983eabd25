"""Against scikit-learn and SciPy, which compute the same things another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import f1_score, top_k_accuracy_score

from edgekit.algorithms.metrics import cosine_similarity, f1_scores, label_ranks, softmax_divergence


@pytest.mark.parametrize("k", [1, 2, 5])
def test_ranks_give_scikit_learns_top_k(k: int) -> None:
    rng = np.random.default_rng(k)
    logits, labels = rng.normal(size=(200, 10)), rng.integers(0, 10, 200)
    assert (label_ranks(logits, labels) < k).mean() == top_k_accuracy_score(labels, logits, k=k, labels=range(10))


def test_of_equal_scores_the_lower_class_comes_first() -> None:
    logits = np.array([[1.0, 1, 1], [0, 2, 2], [3, 3, 0]])
    for label in range(3):
        ranks = label_ranks(logits, np.full(3, label))
        np.testing.assert_array_equal(ranks == 0, logits.argmax(axis=1) == label)
    np.testing.assert_array_equal(label_ranks(logits, np.array([2, 2, 2])), [2, 1, 2])


def test_f1_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    np.testing.assert_allclose(f1_scores(labels, predictions, 5), f1_score(labels, predictions, average=None))


def test_classes_that_do_not_occur_have_no_f1() -> None:
    scores = f1_scores(np.array([0, 0, 2]), np.array([0, 2, 2]), 4)
    np.testing.assert_allclose(scores, [2 / 3, np.nan, 2 / 3, np.nan])


def test_cosine_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 7)), rng.normal(size=(20, 7))
    np.testing.assert_allclose(cosine_similarity(a, b), [1 - cosine(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_array_equal(cosine_similarity(np.zeros((2, 3)), np.array([[0, 0, 0], [0, 1, 0]])), [1, 0])


def test_divergence_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 4, 9)) * 5, rng.normal(size=(6, 4, 9)) * 5
    np.testing.assert_allclose(softmax_divergence(a, b), entropy(softmax(a, axis=-1), softmax(b, axis=-1), axis=-1))
    assert softmax_divergence(np.array([1e4, 0.0]), np.array([0.0, 1e4])) == pytest.approx(1e4)
    assert softmax_divergence(a, a).max() == 0
