"""Objects in pictures, found from a detector's raw head: COCO's average precision."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.average_precision import AveragePrecision
from edgekit.algorithms.boxes import THRESHOLDS, matched, suppressed
from edgekit.core.artifacts import Batch
from edgekit.core.datasets import Boxes
from edgekit.core.errors import DataError
from edgekit.core.figures import Draw, Figures
from edgekit.core.plugin import Task
from edgekit.tasks._heads import AnyHead, Grid

ABSENT = -1
CLASS, SCORE, RIGHT = range(3)
"""Of each found box: its class, its score, and the overlaps at which it is right, as bits."""
_BITS = 1 << np.arange(len(THRESHOLDS))


class ObjectDetection(Task):
    """Average precision over ten overlaps and all classes (``AP``), at overlaps 0.5 and 0.75, and the recall of the best boxes, in percent.

    The model gives its raw head; what it means (``head``) and how doubles are suppressed stand in the recipe, so decoding costs and loses
    the same before and after compression. Resampling draws whole pictures. Boxes are judged as shares of the picture, whose overlaps
    are those in pixels.
    """

    primary = "AP"

    head: AnyHead = Field(Grid(), description="What the raw output means: {kind: grid}, cells or pairs, and its options.")
    confidence: float = Field(0.001, ge=0, lt=1, description="Boxes below this score are dropped.")
    candidates: int = Field(400, ge=1, description="Boxes with the best scores that go into suppression.")
    overlap: float | None = Field(0.45, gt=0, le=1, description="Suppress boxes of a class that overlap more; null for none (DETR).")
    detections: int = Field(100, ge=1, le=1000, description="Boxes of a picture that count at most, as COCO's maxDets.")
    labels_per_box: int | None = Field(1, ge=1, description="Classes a box may be found as; null for any number.")
    class_indices: tuple[int, ...] = Field((), description="The set's class for each of the model's; -1 drops one. Empty where they agree.")
    decided: float = Field(0.5, gt=0, lt=1, description="Score from which on a box is a decision, to count changed pictures.")

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return true boxes by class, then class, score and rightness of each found box: [N, classes + 3 * detections].

        Raises:
            DataError: outputs that don't fit the head, labels that are no boxes, or a class that the model does not have.
        """
        boxes, scores = self.head.found(outputs)
        scores = self._in_set(scores)
        truths = [_boxes(label, scores.shape[2]) for label in labels]
        return np.stack([self._row(*picture) for picture in zip(boxes, scores, truths, strict=True)])

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """AP, AP50, AP75 and AR100 (of at most ``detections`` boxes a picture) in percent; 0 where no picture holds an object."""
        found = self._precision(observations).of(np.ones(len(observations)))
        parts = {"AP": found.average, "AP50": found.average[0], "AP75": found.average[5], f"AR{self.detections}": found.recall}
        return {name: _mean(values) for name, values in parts.items()}

    def figures(self, observations: np.ndarray) -> Draw:
        """AP of a draw of pictures, and that of each class."""
        precision = self._precision(observations)

        def draw(counts: np.ndarray) -> Figures:
            average = precision.of(counts).average
            return Figures(_mean(average), 100 * average.mean(axis=0))

        return draw

    def holds(self, observations: np.ndarray) -> np.ndarray | None:
        """Classes of the true objects in each picture."""
        return self._truths(observations) > 0

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number that changes when a picture's decisions do: how many objects of which class are found surely."""
        found = self._found(observations)
        sure = np.where(found[:, :, SCORE] >= self.decided, found[:, :, CLASS], ABSENT)
        return np.array([zlib.crc32(np.sort(row).astype(np.int64).tobytes()) for row in sure])

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a picture holds objects of several classes."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a picture as a whole is neither right nor wrong."""
        return None

    def _in_set(self, scores: np.ndarray) -> np.ndarray:
        """Scores [N, Q, classes of the set]."""
        if not self.class_indices:
            return scores
        if len(self.class_indices) != scores.shape[2]:
            raise DataError(
                f"class_indices names {len(self.class_indices)} classes, the model has {scores.shape[2]}", hint="give each one, or -1"
            )
        mapped = np.zeros((*scores.shape[:2], max(self.class_indices) + 1))
        kept = [place for place, index in enumerate(self.class_indices) if index >= 0]
        for place in kept:  # several classes of the model may be one of the set: the surest counts
            mapped[..., self.class_indices[place]] = np.maximum(mapped[..., self.class_indices[place]], scores[..., place])
        return mapped

    def _row(self, boxes: np.ndarray, scores: np.ndarray, truth: Boxes) -> np.ndarray:
        places, classes = self._candidates(scores)
        if self.overlap is not None:
            stays = suppressed(boxes[places], classes, self.overlap)
            places, classes = places[stays], classes[stays]
        places, classes = places[: self.detections], classes[: self.detections]
        right = matched(boxes[places], classes, truth.corners, truth.classes)
        found = np.full((self.detections, 3), float(ABSENT))
        found[: len(places)] = np.stack([classes, scores[places, classes], right @ _BITS], axis=1)
        return np.concatenate([np.bincount(truth.classes, minlength=scores.shape[1]), found.ravel()])

    def _candidates(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places and classes of a picture's boxes [Q, classes] that go into suppression, the surest first."""
        if self.labels_per_box is None or self.labels_per_box >= scores.shape[1]:
            places, classes = np.nonzero(scores >= self.confidence)
        else:
            best = np.argsort(-scores, axis=1, kind="stable")[:, : self.labels_per_box]
            places, classes = np.repeat(np.arange(len(scores)), best.shape[1]), best.ravel()
        sure = scores[places, classes]
        order = np.argsort(-sure, kind="stable")[: self.candidates]
        order = order[sure[order] >= self.confidence]
        return places[order], classes[order]

    def _truths(self, observations: np.ndarray) -> np.ndarray:
        return observations[:, : observations.shape[1] - 3 * self.detections]

    def _found(self, observations: np.ndarray) -> np.ndarray:
        return observations[:, observations.shape[1] - 3 * self.detections :].reshape(len(observations), self.detections, 3)

    def _precision(self, observations: np.ndarray) -> AveragePrecision:
        found = self._found(observations)
        pictures, places = np.nonzero(found[:, :, CLASS] != ABSENT)
        rows = found[pictures, places]
        right = (rows[:, RIGHT].astype(np.int64)[:, None] & _BITS) > 0
        return AveragePrecision(self._truths(observations), pictures, rows[:, CLASS].astype(np.int64), rows[:, SCORE], right)


def _mean(values: np.ndarray) -> float:
    """Mean over what is known, in percent."""
    known = values[~np.isnan(values)]
    return 100 * float(known.mean()) if len(known) else 0.0


def _boxes(label: Any, classes: int) -> Boxes:
    if not isinstance(label, Boxes):
        raise DataError(
            "the evaluation set has no boxes, object detection needs them", hint="read it with {use: boxes, ...}, or use task: generic"
        )
    if label.classes.size and label.classes.max() >= classes:
        raise DataError(
            f"a box of class {label.classes.max()} is beyond the model's {classes} classes", hint="set 'class_indices', or use another set"
        )
    return label
