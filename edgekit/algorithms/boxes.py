"""Boxes in a picture: overlap, suppression of doubles, and which found box is which true one."""

from __future__ import annotations

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlaps from which on a box counts as found, as COCO averages them."""


def corners(centred: np.ndarray) -> np.ndarray:
    """Turn boxes [..., 4] given as centre x, centre y, width, height into x1, y1, x2, y2."""
    middle, half = centred[..., :2], centred[..., 2:] / 2
    return np.concatenate([middle - half, middle + half], axis=-1)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [N, 4] and [M, 4] given as x1, y1, x2, y2: [N, M], 0 for empty boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared: np.ndarray = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def suppressed(boxes: np.ndarray, classes: np.ndarray, overlap: float) -> np.ndarray:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: x1, y1, x2, y2 [N, 4], the surest first.
        classes: class of each [N].
        overlap: a box goes when its overlap with a surer one of its class is greater.

    Returns:
        Positions of those that stay, in order.
    """
    double = (overlaps(boxes, boxes) > overlap) & (classes[:, None] == classes[None, :])
    stays = np.ones(len(boxes), bool)
    for place in range(len(boxes)):
        if stays[place]:
            stays[place + 1 :] &= ~double[place, place + 1 :]
    return np.flatnonzero(stays)


def matched(boxes: np.ndarray, classes: np.ndarray, true_boxes: np.ndarray, true_classes: np.ndarray) -> np.ndarray:
    """Tell which found boxes are right at each of :data:`THRESHOLDS`, by COCO's rule.

    The surest box first takes the true one of its class that it overlaps most and that none has taken.

    Args:
        boxes: found boxes [N, 4], the surest first.
        classes: their classes [N].
        true_boxes: true boxes [M, 4].
        true_classes: their classes [M].

    Returns:
        Bool [N, thresholds].

    Reference: Lin et al. 2014, "Microsoft COCO: Common Objects in Context" (arXiv:1405.0312), and its pycocotools.
    """
    right = np.zeros((len(boxes), len(THRESHOLDS)), bool)
    found = overlaps(boxes, true_boxes)
    found[classes[:, None] != true_classes[None, :]] = -1.0
    rows = np.arange(len(THRESHOLDS))
    free = np.ones((len(THRESHOLDS), len(true_boxes)), bool)
    for place, row in enumerate(found):
        if not len(row) or row.max() < THRESHOLDS[0]:
            continue
        candidates = np.where(free, row[None, :], -1.0)[:, ::-1]  # of equal overlaps the last one, as in pycocotools
        best = candidates.shape[1] - 1 - candidates.argmax(axis=1)
        hit = candidates.max(axis=1) >= THRESHOLDS
        right[place] = hit
        free[rows[hit], best[hit]] = False
    return right
