"""Rank correlation against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from edgekit.algorithms.similarities import Similarities, cosines


def spaces(n: int = 30, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(n, 6))
    return first, first + noise * rng.normal(size=first.shape)


@pytest.mark.parametrize("digits", [12, 1])
def test_spearman_is_scipys_with_and_without_ties(digits: int) -> None:
    first, second = (np.round(space, digits) for space in spaces())
    pairs = np.triu_indices(30, 1)
    expected = spearmanr(cosines(first)[pairs], cosines(second)[pairs]).statistic
    assert Similarities(first, second, np.arange(30)).spearman(np.ones(30)) == pytest.approx(expected)


def test_a_draw_weighs_pairs_and_never_compares_a_sample_with_itself() -> None:
    first, second = spaces()
    counts = np.random.default_rng(1).integers(0, 4, 30)
    again = np.repeat(np.arange(30), counts)
    left, right = np.triu_indices(len(again), 1)
    differ = again[left] != again[right]
    pairs = again[left][differ], again[right][differ]
    expected = spearmanr(cosines(first)[pairs], cosines(second)[pairs]).statistic
    assert Similarities(first, second, np.arange(30)).spearman(counts) == pytest.approx(expected)
    assert Similarities(first[again], second[again], again).spearman(np.ones(len(again))) == pytest.approx(expected)


def test_nothing_to_rank_is_no_correlation() -> None:
    first, second = spaces(3)
    assert Similarities(first[:1], second[:1], np.arange(1)).spearman(np.ones(1)) == 0
    assert Similarities(first[:2], second[:2], np.arange(2)).spearman(np.ones(2)) == 0
