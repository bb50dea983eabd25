from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from edgekit.core.datasets import VOID, Mask
from edgekit.core.errors import DataError
from edgekit.tasks.semantic_segmentation import SemanticSegmentation, nearest


def sample(n: int = 12, classes: int = 5) -> tuple[np.ndarray, list[Mask]]:
    """Scores [N, classes, 6, 8] that are often right, and masks without the last class, a corner of which does not count."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, classes - 1, (n, 6, 8)).astype(np.uint8)
    scores = rng.normal(size=(n, classes, 6, 8)) + 1.5 * np.eye(classes)[masks].transpose(0, 3, 1, 2)
    masks[:, :2, :2] = VOID
    return scores.astype(np.float32), [Mask(mask) for mask in masks]


def test_the_metrics_are_scikit_learns_on_all_pixels_that_count() -> None:
    scores, masks = sample()
    task = SemanticSegmentation()
    truth, found = np.stack([mask.pixels for mask in masks]), scores.argmax(axis=1)
    truth, found = truth[truth != VOID], found[np.stack([m.pixels for m in masks]) != VOID]
    overlaps = jaccard_score(truth, found, average=None, labels=range(4))
    rows = task.observe({"output": scores}, masks, {})
    assert task.metrics(rows) == {
        "mIoU": pytest.approx(100 * np.mean(overlaps)),
        "pixel_accuracy": pytest.approx(100 * accuracy_score(truth, found)),
    }
    figures = task.figures(rows)(np.ones(len(rows)))
    assert figures.primary == pytest.approx(100 * np.mean(overlaps))
    np.testing.assert_allclose(figures.classes, [*(100 * overlaps), np.nan])


def test_a_prediction_is_brought_to_the_masks_size_as_pillow_does() -> None:
    image = pytest.importorskip("PIL.Image")
    small = np.random.default_rng(1).integers(0, 9, (7, 5)).astype(np.uint8)
    for size in ((11, 13), (3, 4), (7, 5), (14, 10)):
        expected = np.asarray(image.fromarray(small).resize(size[::-1], image.Resampling.NEAREST))
        np.testing.assert_array_equal(nearest(small, size), expected)


def test_predictions_change_when_a_class_begins_or_ceases_to_be_seen() -> None:
    task = SemanticSegmentation()
    mask = [Mask(np.zeros((20, 20), np.uint8))]

    def decision(pixels: int, kind: int) -> int:
        scores = np.zeros((1, 3, 20, 20))
        scores[0, 0] = 1
        scores[0, kind].ravel()[:pixels] = 2
        return int(task.predictions(task.observe({"y": scores}, mask, {}))[0])

    assert decision(0, 1) == decision(3, 1) != decision(4, 1)
    assert decision(200, 1) == decision(4, 1) != decision(200, 2)


def test_training_ignores_pixels_that_do_not_count_and_takes_smaller_maps() -> None:
    torch = pytest.importorskip("torch")
    scores, masks = sample()
    small = torch.from_numpy(scores[:, :, ::2, ::2].copy())
    wanted = np.stack([nearest(mask.pixels, (3, 4)) for mask in masks])
    chances = small.log_softmax(1).numpy()
    one_by_one = [-chances[i, k, y, x] for (i, y, x), k in np.ndenumerate(wanted) if k != VOID]
    assert float(SemanticSegmentation().loss({"output": small}, masks)) == pytest.approx(np.mean(one_by_one), rel=1e-5)


def test_imitation_is_that_of_one_pixel_whatever_their_number() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    mine, theirs = (torch.from_numpy(rng.normal(size=(2, 4, 1, 1))) for _ in range(2))
    task = SemanticSegmentation()
    one = float(task.imitation({"y": mine}, {"y": theirs}, 2.0))
    many = float(task.imitation({"y": mine.expand(2, 4, 5, 5)}, {"y": theirs.expand(2, 4, 5, 5)}, 2.0))
    assert one == pytest.approx(many)
    assert one > 0.01
    assert float(task.imitation({"y": mine}, {"y": mine}, 2.0)) == pytest.approx(0, abs=1e-12)


def test_what_is_kept_of_a_large_map_is_small() -> None:
    kept = SemanticSegmentation().kept({"y": np.arange(2 * 3 * 384 * 10.0).reshape(2, 3, 384, 10)})["y"]
    assert kept.shape == (2, 3, 64, 10)
    assert kept[0, 0, 1, 0] == 60


@pytest.mark.parametrize(
    ("output", "labels", "message"),
    [
        (np.zeros((1, 3, 4)), [Mask(np.zeros((4, 4), np.uint8))], r"is \[1, 3, 4\], segmentation gives"),
        (np.zeros((1, 3, 4, 4)), [None], "has no masks"),
        (np.zeros((1, 3, 4, 4)), [Mask(np.full((4, 4), 3, np.uint8))], "holds class 3, the model has 3"),
        (np.full((1, 3, 4, 4), np.nan), [Mask(np.zeros((4, 4), np.uint8))], "NaN"),
    ],
)
def test_outputs_and_labels_that_do_not_fit(output: np.ndarray, labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SemanticSegmentation().observe({"output": output}, labels, {})
