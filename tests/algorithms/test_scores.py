from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms.scores import likely_losses

SURE = np.log(np.array([[0.9, 0.1], [0.9, 0.1]]))


def test_what_does_not_change_loses_nothing() -> None:
    assert likely_losses(SURE, SURE).mean() == 0
    assert likely_losses(SURE + 5, SURE).mean() == pytest.approx(0)


def test_a_changed_prediction_loses_what_it_was_sure_of() -> None:
    assert likely_losses(SURE[:, ::-1], SURE).mean() == pytest.approx(100 * (0.9 - 0.1) / 0.9)


def test_near_ties_cost_almost_nothing() -> None:
    tied = np.log(np.array([[0.51, 0.49], [0.49, 0.51]]))
    assert likely_losses(tied[::-1], tied).mean() == pytest.approx(100 * 0.02 / 0.51 / 2)  # the other sample's error points the other way


def test_errors_are_laid_on_other_samples_too() -> None:
    original = np.log(np.array([[0.9, 0.1], [0.6, 0.4]]))
    scores = original + np.array([[-1.0, 0.0], [0.0, 0.0]])  # too little to change the sample it met, enough for the other
    assert (scores.argmax(axis=1) == original.argmax(axis=1)).all()
    assert likely_losses(scores, original).mean() == pytest.approx(100 * (0.6 - 0.4) / 4 / 0.75)


def test_outputs_that_are_not_finite_lose_all() -> None:
    assert likely_losses(np.full((2, 2), np.nan), SURE).mean() == pytest.approx(100)
