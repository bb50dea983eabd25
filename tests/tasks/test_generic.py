from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError
from edgekit.tasks.generic import Generic


def batch(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    return {"boxes": rng.normal(size=(6, 3, 4)).astype(np.float32), "scores": rng.normal(size=(6, 5)).astype(np.float32)}


def test_the_original_scores_a_hundred() -> None:
    task = Generic()
    found = task.metrics(task.observe(batch(0), [None] * 6, batch(0)))
    assert found == {"cosine": pytest.approx(100), "max_error": 0, "mean_error": 0, "kl": 0}


def test_all_outputs_count() -> None:
    mine, theirs = batch(1), batch(0)
    a = np.concatenate([mine["boxes"].reshape(6, -1), mine["scores"]], axis=1).astype(np.float64)
    b = np.concatenate([theirs["boxes"].reshape(6, -1), theirs["scores"]], axis=1).astype(np.float64)
    task = Generic()
    found = task.metrics(task.observe(mine, [], dict(reversed(theirs.items()))))
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    divergences = [
        entropy(softmax(theirs[name], axis=-1), softmax(mine[name], axis=-1), axis=-1).reshape(6, -1).mean(axis=1)
        for name in ("boxes", "scores")
    ]
    assert found == {
        "cosine": pytest.approx(100 * cosines.mean()),
        "max_error": pytest.approx(np.abs(a - b).max()),
        "mean_error": pytest.approx(np.abs(a - b).mean()),
        "kl": pytest.approx(np.mean(divergences), rel=1e-5),
    }


def test_one_output_may_be_chosen() -> None:
    mine, theirs = batch(0), batch(0)
    mine["boxes"] = mine["boxes"] + 1
    assert Generic(output="scores").metrics(Generic(output="scores").observe(mine, [], theirs))["max_error"] == 0
    with pytest.raises(DataError, match=r"no output 'score'.*did you mean 'scores'"):
        Generic(output="score").observe(mine, [], theirs)


def test_the_class_of_a_classifier_is_its_prediction() -> None:
    task = Generic()
    outputs = {"y": np.array([[0.1, 0.9], [0.8, 0.2]])}
    np.testing.assert_array_equal(task.predictions(task.observe(outputs, [], outputs)), [1, 0])


def test_a_changed_decision_changes_the_prediction() -> None:
    task, theirs = Generic(), batch(0)
    mine = {name: values.copy() for name, values in theirs.items()}
    mine["boxes"][2, 1, mine["boxes"][2, 1].argmin()] = 100
    mine["scores"][4] += 1
    before, after = (task.predictions(task.observe(outputs, [], theirs)) for outputs in (theirs, mine))
    np.testing.assert_array_equal(before != after, [False, False, True, False, False, False])


def test_a_single_number_is_decided_by_its_sign() -> None:
    task = Generic()
    outputs = {"y": np.array([-1.0, 2.0, 3.0])}
    np.testing.assert_array_equal(task.predictions(task.observe(outputs, [], outputs)), [1, 0, 0])


def test_there_are_no_classes() -> None:
    task = Generic()
    rows = task.observe(batch(0), [None] * 6, batch(1))
    assert (task.groups(rows), task.correct(rows), task.labelled) == (None, None, False)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"boxes": np.zeros((6, 3, 4))}, "no output 'scores'"),
        ({**batch(0), "scores": np.zeros((6, 4))}, r"'scores' is \[6, 4\], the original's is \[6, 5\]"),
        ({**batch(0), "scores": np.full((6, 5), np.nan)}, "'scores' holds NaN"),
    ],
)
def test_outputs_that_can_not_be_compared(outputs: Batch, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Generic().observe(outputs, [None] * 6, batch(0))
