from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, top_k_accuracy_score

from edgekit.core.errors import DataError
from edgekit.tasks.fill_mask import FillMask


def texts(n: int = 30, length: int = 8, words: int = 12) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, words, (n, length))
    scores = rng.normal(size=(n, length, words)) + 1.5 * np.eye(words)[tokens]
    return scores, list(np.where(rng.random(tokens.shape) < 0.3, tokens, -100))


def test_metrics_are_those_of_all_gaps() -> None:
    scores, labels = texts()
    gaps = np.stack(labels) != -100
    chosen, truth = scores[gaps], np.stack(labels)[gaps]
    chances = np.exp(chosen) / np.exp(chosen).sum(axis=1, keepdims=True)
    task = FillMask()
    assert task.metrics(task.observe({"logits": scores}, labels, {})) == {
        "top1": pytest.approx(100 * np.mean(chosen.argmax(axis=1) == truth)),
        "top5": pytest.approx(100 * top_k_accuracy_score(truth, chosen, k=5, labels=range(12))),
        "perplexity": pytest.approx(np.exp(log_loss(truth, chances, labels=range(12)))),
    }


def test_a_text_without_gaps_counts_nothing() -> None:
    scores, labels = texts(4)
    task = FillMask()
    rows = task.observe({"y": scores}, labels, {})
    empty = task.observe({"y": scores[:1]}, [np.full(8, -100)], {})
    assert task.metrics(np.concatenate([rows, empty])) == task.metrics(rows)


def test_training_counts_gaps_alone() -> None:
    torch = pytest.importorskip("torch")
    scores, labels = texts(5)
    task = FillMask()
    loss = float(task.loss({"y": torch.from_numpy(scores)}, labels))
    assert np.exp(loss) == pytest.approx(task.metrics(task.observe({"y": scores}, labels, {}))["perplexity"])


def test_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"is \[2, 3\], a language model gives \[2, length, vocabulary\]"):
        FillMask().observe({"y": np.zeros((2, 3))}, [None, None], {})
