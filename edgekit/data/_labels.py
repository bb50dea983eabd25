"""From the labels that files hold (names, numbers from 0 or from 1) to class indices, with every misfit reported."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.core.datasets import VOID, Answers, Boxes, Mask, Reference
from edgekit.core.errors import DataError, closest

Label = int | np.ndarray | Boxes | Mask | Reference | Answers | None


class Labels:
    """Turns stored labels into class indices, alone or in boxes and masks."""

    def __init__(self, classes: tuple[str, ...], first: int, where: str) -> None:
        if len(set(classes)) != len(classes):
            twice = next(name for name in classes if classes.count(name) > 1)
            raise DataError(f"data set {where}: class {twice!r} stands twice", hint="give every class its own name")
        self._classes = classes
        self._by_name = {name: index for index, name in enumerate(classes)}
        self._first = first
        self._where = where

    def number(self, label: Any, sample: int) -> Label:
        """Return the class index of a stored label.

        None stays None, texts to compare with stay texts, and so does a sequence of whole numbers where no classes are listed.

        Args:
            label: a class name, a number, the numbers of a sequence [L] (the tokens of a text, say), boxes, a mask, texts, or None.
            sample: which sample it belongs to, for messages.

        Raises:
            DataError: not a class.
        """
        if label is None or isinstance(label, Reference | Answers):
            return label
        if isinstance(label, Boxes):
            return Boxes(label.corners, self._within(label.classes, sample))
        if isinstance(label, Mask):
            pixels, counting = label.pixels.copy(), label.pixels != VOID
            pixels[counting] = self._within(pixels[counting], sample)
            return Mask(pixels)
        if isinstance(label, str):
            name = label.strip()
            if name in self._by_name:
                return self._by_name[name]
            try:
                label = int(name)
            except ValueError:
                raise self._unknown(name, sample) from None
        array = np.asarray(label)
        if array.ndim == 1 and array.dtype.kind in "iu" and not self._classes:
            return array
        if array.shape != () or array.dtype.kind not in "biuf" or array != np.floor(array):
            said = repr(label)[:60]
            raise DataError(f"data set {self._where}: sample {sample} has label {said}, not a class", hint="use one whole number or a name")
        index = int(array) - self._first
        if index < 0 or (self._classes and index >= len(self._classes)):
            last = f" to {self._first + len(self._classes) - 1}" if self._classes else ""
            raise DataError(
                f"data set {self._where}: sample {sample} has label {int(array)}, labels go from {self._first}{last}",
                hint="correct 'classes', 'first_label' or the label itself",
            )
        return index

    def _within(self, stored: np.ndarray, sample: int) -> np.ndarray:
        """Class indices of many stored numbers at once."""
        for extreme in (stored.min(), stored.max()) if stored.size else ():
            self.number(int(extreme), sample)
        return stored.astype(np.int64) - self._first

    def _unknown(self, name: str, sample: int) -> DataError:
        if not self._classes:
            return DataError(
                f"data set {self._where}: sample {sample} has label {name!r}, no classes are listed", hint="add 'classes: [...]'"
            )
        return DataError(
            f"data set {self._where}: sample {sample} has label {name!r}, which is no class", hint=closest(name, self._classes)
        )
