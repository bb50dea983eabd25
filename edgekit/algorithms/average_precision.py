"""Average precision over classes and overlaps, as COCO defines it, quick enough for thousands of resamples.

Precision is interpolated at 101 recalls. The envelope of a precision curve changes only where a right box stands, so each draw of
pictures costs a pass over those alone, with every picture weighed by how often it was drawn.

Reference: Lin et al. 2014, "Microsoft COCO: Common Objects in Context" (arXiv:1405.0312), and its pycocotools.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RECALLS = 101
_LEVEL = 1e-9
"""Rounding of a recall, which may reach the next of the 101 levels exactly."""


@dataclass(frozen=True)
class Precisions:
    """Figures of one draw.

    Attributes:
        average: average precision [thresholds, classes] in 0..1; NaN for classes without a true box.
        recall: recall of all boxes together [thresholds, classes], NaN as there.
    """

    average: np.ndarray
    recall: np.ndarray


class AveragePrecision:
    """The found boxes of a set, put in order once; computes the precision of any draw of its pictures.

    Args:
        truths: true boxes of each class in each picture [N, classes].
        pictures: picture of each found box [D].
        classes: class of each [D].
        scores: score of each [D].
        right: whether each is right, at each threshold [D, thresholds].
    """

    def __init__(self, truths: np.ndarray, pictures: np.ndarray, classes: np.ndarray, scores: np.ndarray, right: np.ndarray) -> None:
        order = np.lexsort((pictures, -scores, classes))
        self._truths = truths.astype(np.float64)
        self._pictures, ordered = pictures[order], classes[order]
        self._thresholds, self._classes = right.shape[1], truths.shape[1]
        self._which, self._place = np.nonzero(right[order].T)  # by threshold, then class, then score
        self._class = ordered[self._place]
        self._group = self._which * self._classes + self._class
        self._before = np.searchsorted(ordered, self._class, side="left")
        self._starts = np.searchsorted(self._group, self._group, side="left")

    def of(self, counts: np.ndarray) -> Precisions:
        """Compute the figures of a draw, given how often each picture [N] is in it."""
        size = self._thresholds * self._classes
        truths = counts @ self._truths
        weights = counts[self._pictures].astype(np.float64)
        passed = np.concatenate([[0.0], np.cumsum(weights)])
        found = passed[self._place + 1] - passed[self._before]
        hits = np.concatenate([[0.0], np.cumsum(weights[self._place])])
        right = hits[1:] - hits[self._starts]
        precision = np.divide(right, found, out=np.zeros_like(right), where=found > 0)
        recall = np.divide(right, truths[self._class], out=np.zeros_like(right), where=right > 0)
        levels = np.where(right > 0, np.floor(recall * (RECALLS - 1) + _LEVEL) + 1, 0)
        earlier = np.concatenate([[0.0], levels[:-1]]) if len(levels) else levels
        gained = levels - np.where(self._starts == np.arange(len(levels)), 0, earlier)
        envelope = np.maximum.accumulate((precision - 2.0 * self._group)[::-1])[::-1] + 2.0 * self._group
        shape = (self._thresholds, self._classes)
        average = np.bincount(self._group, gained * envelope, minlength=size).reshape(shape) / RECALLS
        reached = np.zeros(size)
        np.maximum.at(reached, self._group, recall)
        absent = np.broadcast_to(truths == 0, shape)
        return Precisions(np.where(absent, np.nan, average), np.where(absent, np.nan, reached.reshape(shape)))
