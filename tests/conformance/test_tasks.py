"""What every task promises, whatever it judges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.artifacts import Batch
from edgekit.core.plugin import Task
from edgekit.core.registry import load, names

N, CLASSES, LENGTH = 40, 12, 6
OF_SEQUENCES = ("causal_lm",)
"""Tasks whose labels are the tokens of a text, and whose scores at a place are of the next one."""
OF_WRITTEN_TEXTS = ("summarization", "transcription", "translation")
"""Tasks whose outputs are the tokens of a text, and whose labels are those of the right one."""
OF_PICTURES = ("text_to_image",)
Case = tuple[Task, Batch, Batch, list[Any]]


@pytest.fixture(params=names(Task))
def case(request: pytest.FixtureRequest) -> Case:
    """A task with outputs of a candidate, of the original, and labels."""
    rng = np.random.default_rng(0)
    task = load(Task, request.param)()
    if request.param in OF_WRITTEN_TEXTS:
        right = rng.integers(0, CLASSES, (N, LENGTH))
        first = changed({"tokens": right}, 0.1, 5)
        return task, changed(first, 0.5, 6), first, list(right)
    if request.param in OF_PICTURES:
        pictures = {"image": rng.random((N, 3, 4, 4)).astype(np.float32)}
        return task, changed(pictures, 0.1, 5), pictures, [None] * N
    labels = rng.integers(0, CLASSES, (N, LENGTH) if request.param in OF_SEQUENCES else N)
    right = np.eye(CLASSES)[np.roll(labels, -1, axis=1) if request.param in OF_SEQUENCES else labels]
    original = (rng.normal(size=right.shape) + 3 * right).astype(np.float32)
    candidate = original + rng.normal(size=original.shape).astype(np.float32)
    told = list(labels) if request.param in OF_SEQUENCES else labels.tolist()
    return task, {"output": candidate}, {"output": original}, told if task.labelled else [None] * N


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
