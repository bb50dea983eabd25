"""What every task promises, whatever it judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifacts import Batch
from edgekit.core.datasets import Answers, Boxes, Mask, Reference
from edgekit.core.plugin import Task
from edgekit.core.registry import load, names

N, CLASSES, LENGTH = 40, 12, 6
Case = tuple[Task, Batch, Batch, list[Any]]
"""A task with outputs of a candidate, of the original, and labels."""
Random = np.random.Generator


def noisy(task: Task, right: np.ndarray, labels: list[Any], rng: Random) -> Case:
    """An original that is often right, and a candidate that is less often."""
    original = (rng.normal(size=right.shape) + 3 * right).astype(np.float32)
    candidate = original + rng.normal(size=original.shape).astype(np.float32)
    return task, {"output": candidate}, {"output": original}, labels


def of_classes(task: Task, rng: Random) -> Case:
    labels = rng.integers(0, CLASSES, N)
    return noisy(task, np.eye(CLASSES)[labels], labels.tolist() if task.labelled else [None] * N, rng)


def of_next_tokens(task: Task, rng: Random) -> Case:
    labels = rng.integers(0, CLASSES, (N, LENGTH))
    return noisy(task, np.eye(CLASSES)[np.roll(labels, -1, axis=1)], list(labels), rng)


def of_places(task: Task, rng: Random) -> Case:
    """A number for each place of a sequence, some of which don't count."""
    labels = rng.integers(0, CLASSES, (N, LENGTH))
    case = noisy(task, np.eye(CLASSES)[labels], [], rng)
    labels[rng.random(labels.shape) < 0.3] = -100
    return (*case[:3], list(labels))


def of_objects(task: Task, rng: Random) -> Case:
    """FastestDet's grid with one object a picture."""
    labels, original = [], np.full((N, 5 + CLASSES, 4, 4), 0.02, np.float32)
    for picture in range(N):
        (row, column), kind = rng.integers(0, 4, 2), int(rng.integers(0, CLASSES))
        original[picture, [0, 5 + kind], row, column] = 0.9
        centre = np.array([column + np.tanh(0.02), row + np.tanh(0.02)]) / 4
        half = 0.5 / (1 + np.exp(-0.02)) * np.ones(2)
        labels.append(Boxes(np.concatenate([centre - half, centre + half])[None], np.array([kind])))
    candidate = original + 0.3 * rng.normal(size=original.shape).astype(np.float32)
    return task, {"output": candidate}, {"output": original}, labels


def of_answers(task: Task, rng: Random) -> Case:
    """A passage of words, one of which answers, behind a token that belongs to no passage."""
    labels, right = [], np.zeros((N, LENGTH + 1))
    for place in range(N):
        words = [f"w{number}" for number in rng.integers(100, 999, LENGTH)]
        ends = np.cumsum([len(word) + 1 for word in words])
        spans = np.array([[-1, -1], *([end - len(word) - 1, end - 1] for word, end in zip(words, ends, strict=True))])
        answer = int(rng.integers(0, LENGTH))
        right[place, answer + 1] = 1
        labels.append(Answers((words[answer],), " ".join(words), spans))
    sides = {name: noisy(task, right, labels, rng) for name in ("start_logits", "end_logits")}
    candidate, original = ({name: side[place]["output"] for name, side in sides.items()} for place in (1, 2))
    return task, candidate, original, labels


def of_speech(task: Task, rng: Random) -> Case:
    """Paths of a CTC network in which a blank follows each token."""
    tokens = rng.integers(1, CLASSES, (N, LENGTH))
    path = np.stack([tokens, np.zeros_like(tokens)], axis=2).reshape(N, -1)
    return noisy(task, 1.5 * np.eye(CLASSES)[path], [Reference((" ".join(map(str, row)),)) for row in tokens], rng)


def of_pixels(task: Task, rng: Random) -> Case:
    """Maps of class scores, with masks of twice their size."""
    classes = rng.integers(0, CLASSES, (N, 1, 1)) * np.ones((1, 4, 4), np.int64)
    classes[:, 0] = rng.integers(0, CLASSES, (N, 1))
    masks = [Mask(np.kron(one, np.ones((2, 2))).astype(np.uint8)) for one in classes]
    return noisy(task, np.eye(CLASSES)[classes].transpose(0, 3, 1, 2), masks, rng)


def of_speakers(task: Task, rng: Random) -> Case:
    """Embeddings near that of the speaker, of whom there are four."""
    speakers = rng.integers(0, 4, N)
    voices = rng.normal(size=(4, 16))[speakers]
    original, candidate = ((voices + size * rng.normal(size=voices.shape)).astype(np.float32) for size in (0.4, 1.2))
    return task, {"output": candidate}, {"output": original}, speakers.tolist()


def of_meanings(task: Task, rng: Random) -> Case:
    """Vectors in some clusters."""
    meanings = rng.normal(size=(6, 16))[rng.integers(0, 6, N)] + 0.3 * rng.normal(size=(N, 16))
    return task, {"output": meanings + 0.5 * rng.normal(size=meanings.shape)}, {"output": meanings}, [None] * N


def of_written(task: Task, rng: Random) -> Case:
    """Tokens of a text, whose label are those of the right one."""
    right = rng.integers(0, CLASSES, (N, LENGTH))
    first = changed({"tokens": right}, 0.1, 5)
    return task, changed(first, 0.5, 6), first, list(right)


def of_pictures(task: Task, rng: Random) -> Case:
    pictures = {"image": rng.random((N, 3, 4, 4)).astype(np.float32)}
    return task, changed(pictures, 0.1, 5), pictures, [None] * N


CASES: dict[str, Callable[[Task, Random], Case]] = {
    "causal_lm": of_next_tokens,
    "embeddings": of_meanings,
    "fill_mask": of_places,
    "object_detection": of_objects,
    "question_answering": of_answers,
    "semantic_segmentation": of_pixels,
    "speaker_verification": of_speakers,
    "speech_recognition": of_speech,
    "summarization": of_written,
    "text_to_image": of_pictures,
    "token_classification": of_places,
    "transcription": of_written,
    "translation": of_written,
}
"""What makes the case of a task; of all others, class scores."""


@pytest.fixture(params=names(Task))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES.get(request.param, of_classes)(load(Task, request.param)(), np.random.default_rng(0))


def changed(outputs: Batch, size: float, seed: int) -> Batch:
    """Outputs with noise of some size; of whole numbers, a share of them that grows with the size becomes others."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, values in outputs.items():
        other = rng.normal(size=values.shape) if values.dtype.kind == "f" else rng.integers(0, CLASSES, values.shape)
        mixed = values + size * other if values.dtype.kind == "f" else np.where(rng.random(values.shape) < 1 - np.exp(-size), other, values)
        made[name] = mixed.astype(values.dtype)
    return made


def rows_of(case: Case, which: slice = slice(None)) -> np.ndarray:
    task, candidate, original, labels = case
    part = ({name: values[which] for name, values in outputs.items()} for outputs in (candidate, original))
    outputs, reference = part
    return task.observe(outputs, labels[which], reference)


def test_observations_are_one_finite_row_a_sample(case: Case) -> None:
    rows = rows_of(case)
    assert (rows.ndim, len(rows), rows.dtype) == (2, N, np.float64)
    assert np.isfinite(rows).all()


def test_batches_do_not_matter(case: Case) -> None:
    pieces = [rows_of(case, slice(i, i + 7)) for i in range(0, N, 7)]
    np.testing.assert_allclose(np.concatenate(pieces), rows_of(case), rtol=1e-12)


def test_the_primary_metric_is_a_percentage_among_the_metrics(case: Case) -> None:
    task = case[0]
    metrics = task.metrics(rows_of(case))
    assert 0 <= metrics[task.primary] <= 100
    assert all(isinstance(value, float) for value in metrics.values())


def test_the_order_of_samples_does_not_matter(case: Case) -> None:
    rows = rows_of(case)
    shuffled = rows[np.random.default_rng(1).permutation(N)]
    assert case[0].metrics(shuffled) == pytest.approx(case[0].metrics(rows))


def test_any_resample_can_be_judged(case: Case) -> None:
    rows = rows_of(case)
    rng = np.random.default_rng(2)
    for size in (1, 3, N):
        metrics = case[0].metrics(rows[rng.integers(0, N, size)])
        assert set(metrics) == set(case[0].metrics(rows))
        assert np.isfinite(list(metrics.values())).all()


def test_figures_of_a_draw_are_the_metrics_of_its_samples(case: Case) -> None:
    rows = rows_of(case)
    draw = case[0].figures(rows)
    for counts in (np.ones(N, np.int64), np.random.default_rng(5).integers(0, 3, N)):
        assert draw(counts).primary == pytest.approx(case[0].metrics(np.repeat(rows, counts, axis=0))[case[0].primary])


def test_classes_that_samples_hold_have_figures_each(case: Case) -> None:
    task, rows = case[0], rows_of(case)
    held = task.holds(rows)
    classes = np.asarray(task.figures(rows)(np.ones(N, np.int64)).classes)
    if held is None:
        assert classes.size == 0
        return
    assert (held.dtype, held.shape) == (np.bool_, (N, len(classes)))
    assert task.groups(rows) is None
    assert np.isfinite(classes[held.any(axis=0)]).all()
    without = np.asarray(task.figures(rows)((~held[:, 0]).astype(np.int64)).classes)
    assert np.isnan(without[0])


def test_a_worse_model_scores_lower(case: Case) -> None:
    task, _, original, labels = case
    noise = changed({name: np.zeros_like(values) for name, values in original.items()}, 9, 3)
    scores = [task.metrics(task.observe(outputs, labels, original))[task.primary] for outputs in (original, noise)]
    assert scores[0] > scores[1] + 20


def test_the_original_agrees_with_itself(case: Case) -> None:
    task, candidate, original, labels = case
    same = task.predictions(task.observe(original, labels, original))
    np.testing.assert_array_equal(same, task.predictions(task.observe(original, labels, original)))
    assert (same != task.predictions(task.observe(candidate, labels, original))).any()


def test_groups_and_correctness_fit_the_primary_metric(case: Case) -> None:
    task, rows = case[0], rows_of(case)
    groups, correct = task.groups(rows), task.correct(rows)
    assert task.predictions(rows).shape == (N,)
    assert (groups is None) == (correct is None)
    assert task.labelled or groups is None
    if correct is not None and groups is not None:
        assert (correct.dtype, groups.tolist()) == (np.bool_, case[3])
        assert task.metrics(rows)[task.primary] == pytest.approx(100 * correct.mean())


def test_formats_with_dynamic_int8_exist(case: Case) -> None:
    assert case[0].dynamic_int8 <= {"onnx", "openvino", "tflite"}


def test_what_is_likely_lost_grows_with_the_distance_from_the_original(case: Case) -> None:
    task, _, original, _ = case
    distances = [changed(original, size, 4) for size in (0, 0.1, 1, 100)]
    losses = [float(task.likely_losses(outputs, original).mean()) for outputs in distances]
    assert task.likely_losses(distances[1], original).shape == (N,)
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses == sorted(losses)
    assert losses[3] > 20
