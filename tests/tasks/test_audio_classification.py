from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from edgekit.tasks.audio_classification import AudioClassification


def test_accuracy_and_macro_f1_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 200)
    scores = rng.normal(size=(200, 6)) + 1.5 * np.eye(6)[labels]
    task = AudioClassification()
    rows = task.observe({"logits": scores}, labels.tolist(), {})
    assert task.metrics(rows) == {
        "accuracy": pytest.approx(100 * accuracy_score(labels, scores.argmax(axis=1))),
        "macro_f1": pytest.approx(100 * f1_score(labels, scores.argmax(axis=1), average="macro")),
    }
    np.testing.assert_array_equal(task.predictions(rows), scores.argmax(axis=1))
    np.testing.assert_array_equal(task.groups(rows), labels)  # type: ignore[arg-type]
