"""Pictures made of texts: how far they are from those that the original makes of the same texts and noise."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.scores import finite, pick
from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError
from edgekit.core.plugin import Task

ABSOLUTE, SQUARED, CODE = range(3)
_LEAST = 1e-10
"""Mean squared difference below which pictures count as equal: a PSNR of 100 dB."""


class TextToImage(Task):
    """Mean absolute and squared difference of pixels, values from 0 to 1, to the original's pictures.

    ``similarity`` is 100 minus the mean absolute difference in percent of the range; the original itself scores 100. There is no truth
    to compare with, so that a difference is no loss of quality by itself.
    """

    primary = "similarity"
    labelled = False
    dynamic_int8 = frozenset({"onnx", "tflite"})

    output: str | None = Field(None, description="Output with the picture; needed only where the model has several.")

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return mean absolute and mean squared difference and a code for the picture: [N, 3].

        Raises:
            DataError: outputs of another shape than the original's.
        """
        name = pick(original, self.output)
        mine, theirs = np.asarray(outputs[pick(outputs, name)]), np.asarray(original[name])
        if mine.shape != theirs.shape or mine.ndim != 4:
            raise DataError(
                f"output {name!r} is {list(mine.shape)}, the original's is {list(theirs.shape)}", hint="pictures are [N, channels, H, W]"
            )
        difference = (finite(mine, name) - finite(theirs, name)).reshape(len(mine), -1)
        codes = [float(zlib.crc32(np.round(picture * 255).astype(np.int64).tobytes())) for picture in mine]
        return np.stack([np.abs(difference).mean(axis=1), (difference**2).mean(axis=1), np.array(codes)], axis=1)

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Similarity in percent, and the mean of the pictures' peak signal-to-noise ratios in dB, 100 where they are equal."""
        ratios = -10 * np.log10(np.maximum(observations[:, SQUARED], _LEAST))
        return {"similarity": max(0.0, 100 * (1 - float(observations[:, ABSOLUTE].mean()))), "psnr": float(ratios.mean())}

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number that changes when any pixel of 8 bits does."""
        return observations[:, CODE].astype(np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: there are no classes."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: no picture is the right one."""
        return None
