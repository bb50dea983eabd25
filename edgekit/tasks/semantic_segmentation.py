"""A class for each pixel: mean intersection over union."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.scores import finite, pick, softened_divergence
from edgekit.core.artifacts import Batch
from edgekit.core.datasets import VOID, Mask
from edgekit.core.errors import DataError
from edgekit.core.figures import Draw, Figures
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

SHARED, FOUND, TRUE = range(3)
"""Pixels of a class that are found and true, found, and true."""
_SEEN = 0.01
"""Share of a picture from which on a class counts as seen in it."""
_KEPT = 64
"""Rows and columns of a map that are kept to tell how closely it follows the original's."""


class SemanticSegmentation(Task):
    """Mean over classes of intersection over union (``mIoU``), and the share of right pixels, in percent.

    The model gives scores [N, classes, H, W]; the best class of each place is brought to the mask's size by its nearest neighbour. The mean
    goes over the classes that the masks hold. Resampling draws whole pictures.
    """

    primary = "mIoU"

    output: str | None = Field(None, description="Output with the classes' scores; needed only where the model has several.")

    def loss(self, outputs: Mapping[str, torch.Tensor], labels: Sequence[Any]) -> torch.Tensor:
        """Cross-entropy of the pixels, with masks brought to the output's size.

        Raises:
            DataError: no masks, or a class beyond the output's.
        """
        import torch

        scores = outputs[pick(outputs, self.output)]
        wanted = np.stack([nearest(mask, scores.shape[2:]) for mask in _masks(labels, scores.shape[1])]).astype(np.int64)
        return torch.nn.functional.cross_entropy(scores, torch.from_numpy(wanted).to(scores.device), ignore_index=VOID)

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """Divergence of softened class distributions, mean over all pixels (Hinton et al. 2015, arXiv:1503.02531)."""
        name = pick(taught, self.output)
        mine, theirs = ({name: values[name].movedim(1, -1).flatten(0, -2)} for values in (outputs, taught))
        return softened_divergence(mine, theirs, name, temperature)

    def kept(self, outputs: Batch) -> Batch:
        """Every so many rows and columns of each map."""
        return {name: _thinned(np.asarray(values)) for name, values in outputs.items()}

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return pixels of each class that are shared, found and true: [N, 3 * classes].

        Raises:
            DataError: outputs that are no maps of class scores, or masks that don't fit them.
        """
        name = pick(outputs, self.output)
        scores = np.asarray(outputs[name])
        if scores.ndim != 4 or len(scores) != len(labels) or scores.shape[1] < 2:
            raise DataError(
                f"output {name!r} is {list(scores.shape)}, segmentation gives [{len(labels)}, classes, height, width]",
                hint="choose another output or task; task: generic compares any outputs",
            )
        classes = scores.shape[1]
        finite(scores[:, :, ::16, ::16], name)
        pairs = zip(scores.argmax(axis=1), _masks(labels, classes), strict=True)
        return np.stack([_counted(nearest(best, mask.shape), mask, classes) for best, mask in pairs])

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Mean IoU and pixel accuracy in percent; 0 where no pixel counts."""
        counted = _by_class(observations).sum(axis=0)
        return {"mIoU": _mean(_overlaps(counted)), "pixel_accuracy": 100 * float(counted[SHARED].sum() / max(1.0, counted[TRUE].sum()))}

    def figures(self, observations: np.ndarray) -> Draw:
        """Mean IoU of a draw of pictures, and each class's intersection over union."""
        counted = _by_class(observations).reshape(len(observations), -1)

        def draw(counts: np.ndarray) -> Figures:
            overlaps = _overlaps((counts @ counted).reshape(3, -1))
            return Figures(_mean(overlaps), 100 * overlaps)

        return draw

    def holds(self, observations: np.ndarray) -> np.ndarray | None:
        """Classes of each picture's mask."""
        return np.asarray(_by_class(observations)[:, TRUE] > 0)

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number that changes when a class begins or ceases to cover a hundredth of a picture."""
        counted = _by_class(observations)
        seen = counted[:, FOUND] >= _SEEN * np.maximum(1, counted[:, TRUE].sum(axis=1, keepdims=True))
        return np.array([zlib.crc32(row.tobytes()) for row in seen])

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a picture holds several classes."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a picture as a whole is neither right nor wrong."""
        return None


def nearest(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Bring a map [H, W] to another size, each place taking the nearest."""
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size, values.shape, strict=True))
    return np.asarray(values[rows.astype(np.int64)[:, None], columns.astype(np.int64)])


def _thinned(values: np.ndarray) -> np.ndarray:
    steps = [max(1, size // _KEPT) for size in values.shape[2:]]
    return values[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]


def _counted(found: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    counts = mask != VOID
    found, true = found[counts], mask[counts]
    parts = (true[found == true], found, true)
    return np.concatenate([np.bincount(part, minlength=classes) for part in parts]).astype(np.float64)


def _by_class(observations: np.ndarray) -> np.ndarray:
    return observations.reshape(len(observations), 3, -1)


def _overlaps(counted: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, NaN where no true pixel is of it."""
    union = counted[FOUND] + counted[TRUE] - counted[SHARED]
    return np.where(counted[TRUE] > 0, counted[SHARED] / np.maximum(union, 1), np.nan)


def _mean(overlaps: np.ndarray) -> float:
    known = overlaps[~np.isnan(overlaps)]
    return 100 * float(known.mean()) if len(known) else 0.0


def _masks(labels: Sequence[Any], classes: int) -> list[np.ndarray]:
    for label in labels:
        if not isinstance(label, Mask):
            raise DataError(
                "the evaluation set has no masks, segmentation needs them", hint="read it with {use: masks, ...}, or use task: generic"
            )
        known = label.pixels[label.pixels != VOID]
        if known.size and known.max() >= classes:
            raise DataError(
                f"a mask holds class {known.max()}, the model has {classes} (0 to {classes - 1})", hint="is this set meant for this model?"
            )
    return [label.pixels for label in labels]
