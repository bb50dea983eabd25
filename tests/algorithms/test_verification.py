"""Error rates against scikit-learn's curve."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from edgekit.algorithms.verification import Trials


def voices(n: int = 60, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 5, n)
    return rng.normal(size=(5, 8))[kinds] + noise * rng.normal(size=(n, 8)), kinds


def of_scikit_learn(embeddings: np.ndarray, kinds: np.ndarray) -> float:
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq

    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(kinds), 1)
    false, hits, _ = roc_curve(kinds[first] == kinds[second], (directions @ directions.T)[first, second], drop_intermediate=False)
    return float(brentq(lambda x: 1.0 - x - interp1d(false, hits)(x), 0.0, 1.0))


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_the_equal_error_rate_is_scikit_learns(noise: float) -> None:
    embeddings, kinds = voices(noise=noise)
    found = Trials(embeddings, kinds, np.arange(len(kinds))).of(np.ones(len(kinds))).equal
    assert found == pytest.approx(of_scikit_learn(embeddings, kinds), abs=1e-9)


def test_the_detection_cost_is_its_definition() -> None:
    embeddings, kinds = voices(30)
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(30, 1)
    scores, same = (directions @ directions.T)[first, second], kinds[first] == kinds[second]
    costs = [(0.05 * np.mean(scores[same] < t) + 0.95 * np.mean(scores[~same] >= t)) / 0.05 for t in [*scores, 2.0]]
    assert Trials(embeddings, kinds, np.arange(30)).of(np.ones(30)).cost == pytest.approx(min(costs))


def test_a_draw_weighs_pairs_and_never_compares_a_sample_with_itself() -> None:
    embeddings, kinds = voices()
    counts = np.random.default_rng(3).integers(0, 4, len(kinds))
    again = np.repeat(np.arange(len(kinds)), counts)
    drawn = Trials(embeddings, kinds, np.arange(len(kinds))).of(counts)
    repeated = Trials(embeddings[again], kinds[again], again).of(np.ones(len(again)))
    assert (drawn.equal, drawn.cost) == pytest.approx((repeated.equal, repeated.cost))


def test_perfect_and_reversed_embeddings_and_none_to_compare() -> None:
    kinds = np.repeat([0, 1], 4)
    apart = np.eye(2)[kinds]
    assert Trials(apart, kinds, np.arange(8)).of(np.ones(8)).equal == 0
    mixed = np.eye(2)[np.tile([0, 1], 4)]
    assert Trials(mixed, kinds, np.arange(8)).of(np.ones(8)).equal > 0.5
    for few in (apart[:1], apart[:3]):
        assert Trials(few, kinds[: len(few)], np.arange(len(few))).of(np.ones(len(few))).equal == 0.5
