from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from edgekit.core.errors import DataError
from edgekit.tasks.image_classification import ImageClassification


def sample(classes: int = 12, n: int = 300) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels], labels.tolist()


def test_top1_and_top5_are_scikit_learns() -> None:
    logits, labels = sample()
    task = ImageClassification()
    found = task.metrics(task.observe({"output": logits.astype(np.float32)}, labels, {}))
    assert found == {
        "top1": pytest.approx(100 * accuracy_score(labels, logits.argmax(axis=1))),
        "top5": pytest.approx(100 * top_k_accuracy_score(labels, logits, k=5, labels=range(12))),
    }


def test_below_ten_classes_there_is_no_top5() -> None:
    task = ImageClassification()
    assert set(task.metrics(task.observe({"y": np.eye(9)}, list(range(9)), {}))) == {"top1"}
    assert task.metrics(task.observe({"y": np.eye(10)}, list(range(10)), {})) == {"top1": 100.0, "top5": 100.0}


def test_predictions_groups_and_correctness() -> None:
    task = ImageClassification()
    observed = task.observe({"y": np.array([[0.1, 0.9, 0], [5, 1, 1], [1, 2, 2]])}, [1, 2, 2], {})
    np.testing.assert_array_equal(task.predictions(observed), [1, 0, 1])
    np.testing.assert_array_equal(task.groups(observed), [1, 2, 2])  # type: ignore[arg-type]
    np.testing.assert_array_equal(task.correct(observed), [True, False, False])  # type: ignore[arg-type]


def test_one_of_several_outputs_is_named() -> None:
    outputs = {"features": np.zeros((2, 7)), "logits": np.array([[0.0, 1], [1, 0]])}
    task = ImageClassification(output="logits")
    assert task.metrics(task.observe(outputs, [1, 0], {}))["top1"] == 100
    with pytest.raises(DataError, match=r"2 outputs \(features, logits\).*output: features"):
        ImageClassification().observe(outputs, [1, 0], {})
    with pytest.raises(DataError, match=r"no output 'logit'.*did you mean 'logits'"):
        ImageClassification(output="logit").observe(outputs, [1, 0], {})


@pytest.mark.parametrize(
    ("output", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, 3], "label 3 is beyond the model's 3 classes"),
        (np.zeros((2, 3)), [0, -1], "label -1 is beyond"),
        (np.zeros((2, 3)), [0, None], "has no labels"),
        (np.zeros((2, 3)), [0, "cat"], "'cat' is no class index"),
        (np.zeros((2, 3)), [0, 1.0], "1.0 is no class index"),
        (np.zeros((3, 3)), [0, 1], r"is \[3, 3\], a classifier gives \[2, classes\]"),
        (np.zeros((2, 3, 4)), [0, 1], r"is \[2, 3, 4\]"),
        (np.zeros((2, 1)), [0, 0], r"is \[2, 1\]"),
        (np.array([[0, np.nan], [0, 1]]), [0, 1], "NaN or infinite"),
        (np.array([[0, np.inf], [0, 1]]), [0, 1], "NaN or infinite"),
    ],
)
def test_outputs_and_labels_that_do_not_fit(output: np.ndarray, labels: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageClassification().observe({"output": output}, labels, {})
