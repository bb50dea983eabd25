from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from edgekit.core.errors import DataError
from edgekit.tasks.text_classification import TextClassification


def observed(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    return TextClassification().observe({"logits": np.eye(classes, dtype=np.float32)[predictions]}, labels.tolist(), {})


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_have_the_f1_of_class_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 2, 80), rng.integers(0, 2, 80)
    assert TextClassification().metrics(observed(labels, predictions, 2)) == {
        "accuracy": pytest.approx(100 * accuracy_score(labels, predictions)),
        "f1": pytest.approx(100 * f1_score(labels, predictions)),
    }


@pytest.mark.parametrize("seed", range(5))
def test_more_classes_have_macro_f1_over_those_that_occur(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 5, 60), rng.integers(1, 6, 60)
    assert TextClassification().metrics(observed(labels, predictions, 8)) == {
        "accuracy": pytest.approx(100 * accuracy_score(labels, predictions)),
        "macro_f1": pytest.approx(100 * f1_score(labels, predictions, average="macro")),
    }


def test_nothing_found_is_zero() -> None:
    assert TextClassification().metrics(observed(np.zeros(3, int), np.zeros(3, int), 2)) == {"accuracy": 100.0, "f1": 0.0}
    assert TextClassification().metrics(observed(np.ones(3, int), np.zeros(3, int), 2)) == {"accuracy": 0.0, "f1": 0.0}


def test_predictions_groups_and_correctness() -> None:
    rows = observed(np.array([0, 1, 2]), np.array([0, 2, 2]), 3)
    task = TextClassification()
    np.testing.assert_array_equal(task.predictions(rows), [0, 2, 2])
    np.testing.assert_array_equal(task.groups(rows), [0, 1, 2])  # type: ignore[arg-type]
    np.testing.assert_array_equal(task.correct(rows), [True, False, True])  # type: ignore[arg-type]
    assert task.dynamic_int8 == {"onnx", "tflite"}


def test_a_label_beyond_the_classes_is_refused() -> None:
    with pytest.raises(DataError, match="label 2 is beyond the model's 2 classes"):
        TextClassification().observe({"logits": np.zeros((1, 2))}, [2], {})
