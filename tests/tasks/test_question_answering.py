from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.algorithms.answers import best_span, exact, f1
from edgekit.core.datasets import Answers
from edgekit.core.errors import DataError
from edgekit.tasks.question_answering import QuestionAnswering

PASSAGE = "The cat sat on a mat in Rome"
SPANS = np.array([[-1, -1], [0, 3], [4, 7], [8, 11], [12, 14], [15, 16], [17, 20], [21, 23], [24, 28], [-1, -1]])


def scores(first: int, last: int) -> dict[str, np.ndarray]:
    return {"start_logits": np.eye(10)[[first]] * 5, "end_logits": np.eye(10)[[last]] * 5}


def judged(outputs: dict[str, np.ndarray], right: tuple[str, ...], **options: Any) -> dict[str, float]:
    task = QuestionAnswering(**options)
    return task.metrics(task.observe(outputs, [Answers(right, PASSAGE, SPANS)], {}))


def test_the_answer_is_what_the_passage_says_there() -> None:
    assert judged(scores(2, 6), ("cat sat on a mat",)) == {"f1": 100, "exact_match": 100}
    assert judged(scores(1, 2), ("cat",)) == {"f1": 100, "exact_match": 100}  # articles don't count
    assert judged(scores(2, 3), ("cat",)) == {"f1": pytest.approx(200 / 3), "exact_match": 0}
    assert judged(scores(8, 8), ("Paris", "Rome")) == {"f1": 100, "exact_match": 100}


@pytest.mark.parametrize(
    ("said", "right", "same", "shared"),
    [
        ("The cat", "a cat!", 1, 1),
        ("cat sat, on the mat", "Cat sat on mat", 1, 1),
        ("cat sat on mat", "mat on", 0, 2 / 3),
        ("cat cat sat", "cat", 0, 1 / 2),
        ("on on mat", "on mat on", 0, 1),
        ("", "cat", 0, 0),
        ("the", "", 1, 1),
        ("dog", "cat", 0, 0),
    ],
)
def test_words_are_compared_as_squads_script_compares_them(said: str, right: str, same: float, shared: float) -> None:
    assert (exact(said, (right,)), f1(said, (right,))) == (same, pytest.approx(shared))
    assert (exact(right, (said,)), f1(right, (said,))) == (same, pytest.approx(shared))


def test_the_best_span_ends_after_its_start_within_the_passage() -> None:
    starts, ends = np.array([9.0, 0, 1, 5]), np.array([9.0, 8, 1, 2])
    assert best_span(starts, ends, np.array([False, True, True, True]), 30) == (1, 1, 8.0)
    assert best_span(np.array([0.0, 3, 0, 0]), np.array([0, 0, 0, 4.0]), np.ones(4, bool), 30) == (1, 3, 7.0)
    assert best_span(np.array([0.0, 3, 0, 0]), np.array([0, 0, 0, 4.0]), np.ones(4, bool), 2) == (2, 3, 4.0)
    assert best_span(starts, ends, np.zeros(4, bool), 30)[:2] == (-1, -1)


def test_no_answer_is_an_answer_where_it_may_be() -> None:
    assert judged(scores(0, 0), (), may_refuse=True) == {"f1": 100, "exact_match": 100}
    assert judged(scores(2, 2), ()) == judged(scores(2, 2), (), may_refuse=True) == {"f1": 0, "exact_match": 0}
    assert judged(scores(2, 2), ("cat",), may_refuse=True)["exact_match"] == 100


def test_training_asks_for_the_tokens_of_the_answer() -> None:
    torch = pytest.importorskip("torch")
    task = QuestionAnswering()
    outputs = {name: torch.from_numpy(values) for name, values in scores(4, 6).items()}
    for text, near in (("on a mat", True), ("cat", False), ("nowhere", False)):
        loss = float(task.loss(outputs, [Answers((text,), PASSAGE, SPANS)]))
        assert (loss < 0.1) == near
    none = {name: torch.from_numpy(values) for name, values in scores(0, 0).items()}
    assert float(task.loss(none, [Answers((), PASSAGE, SPANS)])) < 0.1


@pytest.mark.parametrize(
    ("outputs", "label", "message"),
    [
        (scores(0, 0), None, "this one has none"),
        (scores(0, 0), Answers(("cat",), PASSAGE, SPANS[:5]), "don't fit 1 passages"),
        ({"start_logits": np.zeros((1, 10))}, Answers(("cat",), PASSAGE, SPANS), "no output 'end_logits'"),
    ],
)
def test_outputs_and_labels_that_do_not_fit(outputs: dict[str, np.ndarray], label: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        QuestionAnswering().observe(outputs, [label], {})
