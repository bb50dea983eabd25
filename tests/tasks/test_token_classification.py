from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.tasks.token_classification import TokenClassification

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def texts(n: int = 40, length: int = 9) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores of tags that are often right, and tags, with places that don't count."""
    rng = np.random.default_rng(0)
    labels = rng.choice(5, p=[0.4, 0.2, 0.15, 0.15, 0.1], size=(n, length))
    scores = rng.normal(size=(n, length, 5)) + 2.5 * np.eye(5)[labels]
    labels[rng.random(labels.shape) < 0.2] = -100
    return scores, list(labels)


@pytest.mark.filterwarnings("ignore")
def test_the_metrics_are_seqevals() -> None:
    metrics = pytest.importorskip("seqeval.metrics")
    scores, labels = texts()
    task = TokenClassification(tags=TAGS)
    found, true = (
        [[TAGS[t] for t, counts in zip(row, label, strict=True) if counts != -100] for row, label in zip(rows, labels, strict=True)]
        for rows in (scores.argmax(axis=2), np.stack(labels))
    )
    rows = task.observe({"logits": scores}, labels, {})
    assert task.metrics(rows) == {
        "entity_f1": pytest.approx(100 * metrics.f1_score(true, found)),
        "precision": pytest.approx(100 * metrics.precision_score(true, found)),
        "recall": pytest.approx(100 * metrics.recall_score(true, found)),
        "accuracy": pytest.approx(100 * metrics.accuracy_score(true, found)),
    }
    by_type = metrics.classification_report(true, found, output_dict=True)
    figures = task.figures(rows)(np.ones(len(rows)))
    expected = [np.nan, 100 * by_type["PER"]["f1-score"], np.nan, 100 * by_type["LOC"]["f1-score"], np.nan]
    np.testing.assert_allclose(figures.classes, expected)


def test_without_names_every_tag_is_an_entity_of_its_own() -> None:
    task = TokenClassification()
    scores = np.eye(3)[[[1, 1, 0, 2]]]
    rows = task.observe({"y": scores}, [np.array([1, 2, 0, 2])], {})
    assert task.metrics(rows)["entity_f1"] == pytest.approx(100 * 2 / 3)


def test_training_counts_what_is_tagged() -> None:
    torch = pytest.importorskip("torch")
    scores, labels = texts(3)
    chances = torch.from_numpy(scores).log_softmax(-1).numpy()
    one_by_one = [-chances[i, j, k] for (i, j), k in np.ndenumerate(np.stack(labels)) if k != -100]
    assert float(TokenClassification().loss({"y": torch.from_numpy(scores)}, labels)) == pytest.approx(np.mean(one_by_one))


@pytest.mark.parametrize(
    ("output", "labels", "message"),
    [
        (np.zeros((1, 4)), [np.zeros(4, int)], r"is \[1, 4\], a tagger gives \[1, length, tags\]"),
        (np.zeros((1, 4, 3)), [np.zeros(4, int)], "'tags' names 5 tags, the model has 3"),
        (np.zeros((1, 4, 5)), [np.zeros(3, int)], r"one number a token \[4\]"),
        (np.zeros((1, 4, 5)), [None], "this one has none"),
        (np.zeros((1, 4, 5)), [np.full(4, 5)], "label 5 is beyond the model's 5"),
    ],
)
def test_outputs_and_labels_that_do_not_fit(output: np.ndarray, labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TokenClassification(tags=TAGS).observe({"y": output}, labels, {})
