"""From a detector's raw head to boxes with class scores: the three kinds of heads that detectors have, each described by a few words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from edgekit.algorithms.boxes import corners
from edgekit.algorithms.scores import finite, pick
from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError
from edgekit.core.schema import Schema

Activation = Literal["none", "sigmoid", "softmax"]
Form = Literal["cxcywh", "xyxy"]
Size = Annotated[tuple[int, int], Field(description="Height and width of the model's input.")]
Found = tuple[np.ndarray, np.ndarray]
"""Boxes [N, Q, 4] as x1, y1, x2, y2 in shares of the picture, and scores [N, Q, classes]."""


class Head(Schema):
    """What a raw output means."""

    @abstractmethod
    def found(self, outputs: Batch) -> Found:
        """Return every box with its score for each class.

        Raises:
            DataError: outputs of another shape than the head's, or not finite.
        """


class Grid(Head):
    """One box a cell of a grid, without anchors: an output [N, 5 + classes, rows, columns] of objectness, box and classes.

    The box is centred at (cell + offset) / cells. FastestDet's is the default; its score is objectness^0.6 * class^0.4.
    """

    kind: Literal["grid"] = "grid"
    output: str | None = Field(None, description="The output; needed only where the model has several.")
    offset: Literal["tanh", "sigmoid", "none"] = Field("tanh", description="From the raw offset to shares of a cell.")
    side: Literal["sigmoid", "exp", "none"] = Field("sigmoid", description="From raw width and height to shares of the picture.")
    objectness: Activation = Field("none", description="From the raw objectness to a probability.")
    classes: Activation = Field("none", description="From raw class scores to probabilities.")
    powers: tuple[float, float] = Field((0.6, 0.4), description="Exponents of objectness and class probability in the score.")

    def found(self, outputs: Batch) -> Found:
        """Read the grid."""
        name = pick(outputs, self.output)
        values = _shaped(outputs[name], name, 4, 6, "[N, 5 + classes, rows, columns]")
        rows, columns = values.shape[2:]
        offsets = _activated(values[:, 1:3], self.offset)
        cells = np.stack([offsets[:, 0] + np.arange(columns), offsets[:, 1] + np.arange(rows)[:, None]], axis=1)
        centres = cells / np.array([columns, rows])[:, None, None]
        boxes = np.concatenate([centres, _activated(values[:, 3:5], self.side)], axis=1)
        sure, likely = _activated(values[:, :1], self.objectness), _activated(values[:, 5:], self.classes, axis=1)
        scores = np.maximum(sure, 0) ** self.powers[0] * np.maximum(likely, 0) ** self.powers[1]
        return corners(_listed(boxes)), _listed(scores)


class Cells(Head):
    """Boxes side by side in one output [N, 4 + classes, boxes] or its transpose, as YOLO's heads give them."""

    kind: Literal["cells"]
    output: str | None = Field(None, description="The output; needed only where the model has several.")
    layout: Literal["channels_first", "channels_last"] = Field("channels_first", description="[N, values, boxes] or [N, boxes, values].")
    form: Form = Field("cxcywh", description="Centre and size, or two corners.")
    size: Size | None = Field(None, description="Input's height and width where boxes are in pixels; leave out for shares of the picture.")
    objectness: bool = Field(False, description="Whether a fifth value scales the classes' scores (YOLOv5, YOLOX).")
    classes: Activation = Field("none", description="From raw scores (and objectness) to probabilities.")

    def found(self, outputs: Batch) -> Found:
        """Read the boxes."""
        name = pick(outputs, self.output)
        first = 5 if self.objectness else 4
        values = np.asarray(outputs[name])
        values = values.swapaxes(1, 2) if self.layout == "channels_last" and values.ndim == 3 else values
        values = _shaped(values, name, 3, first + 1, f"{first} + classes values a box").swapaxes(1, 2)
        scores = _activated(values[..., first:], self.classes)
        if self.objectness:
            scores = scores * (values[..., 4:5] if self.classes == "none" else _activated(values[..., 4:5], "sigmoid"))
        return _placed(values[..., :4], self.form, self.size), scores


class Pairs(Head):
    """Boxes [N, Q, 4] and scores [N, Q, classes] in two outputs, as DETR and YOLOS give them."""

    kind: Literal["pairs"]
    boxes: str = Field("pred_boxes", description="Output with the boxes.")
    scores: str = Field("logits", description="Output with the scores.")
    form: Form = Field("cxcywh", description="Centre and size, or two corners.")
    size: Size | None = Field(None, description="Input's height and width where boxes are in pixels; leave out for shares of the picture.")
    classes: Activation = Field("softmax", description="From raw scores to probabilities.")
    no_object: bool = Field(True, description="Whether the last class stands for nothing at all.")

    @model_validator(mode="after")
    def _two_outputs(self) -> Pairs:
        if self.boxes == self.scores:
            raise ValueError("boxes and scores are two outputs")
        return self

    def found(self, outputs: Batch) -> Found:
        """Read both outputs."""
        boxes = finite(outputs[pick(outputs, self.boxes)], self.boxes)
        scores = _activated(finite(outputs[pick(outputs, self.scores)], self.scores), self.classes)
        scores = scores[..., :-1] if self.no_object else scores
        if scores.ndim != 3 or boxes.shape != (*scores.shape[:2], 4) or not scores.shape[2]:
            raise DataError(
                f"outputs {self.boxes!r} {list(boxes.shape)} and {self.scores!r} {list(scores.shape)} don't belong together",
                hint="name the outputs with boxes [N, Q, 4] and scores [N, Q, classes] in 'head'",
            )
        return _placed(boxes, self.form, self.size), scores


AnyHead = Annotated[Grid | Cells | Pairs, Field(discriminator="kind")]


def _shaped(values: np.ndarray, name: str, axes: int, least: int, wanted: str) -> np.ndarray:
    if values.ndim != axes or values.shape[1] < least:
        raise DataError(f"output {name!r} is {list(values.shape)}, this head gives {wanted}", hint="choose another 'head: {kind: ...}'")
    return finite(values, name)


def _listed(values: np.ndarray) -> np.ndarray:
    """[N, values, rows, columns] as [N, boxes, values]."""
    return values.reshape(*values.shape[:2], -1).swapaxes(1, 2)


def _placed(boxes: np.ndarray, form: Form, size: tuple[int, int] | None) -> np.ndarray:
    height, width = size or (1, 1)
    boxes = boxes / np.array([width, height, width, height], np.float64)
    return corners(boxes) if form == "cxcywh" else boxes


def _activated(values: np.ndarray, how: str, axis: int = -1) -> np.ndarray:
    return _ACTIVATIONS[how](values) if how != "softmax" else _softmax(values, axis)


def _softmax(values: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.asarray,
    "sigmoid": lambda values: 0.5 * (1 + np.tanh(0.5 * values)),
    "tanh": np.tanh,
    "exp": lambda values: np.exp(np.minimum(values, 80.0)),
}
