"""Rows on disk: outputs and observations of a whole set, written and read a batch at a time, so that memory does not grow with the set.

The files are ordinary ``.npy``. They are not memory-mapped, because mapped pages count as the process's memory until the system wants
them back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from edgekit.core.errors import DataError


class RowWriter:
    """Writes a ``.npy`` file of a known number of rows; shape and type come from the first batch."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.count = count
        self.written = 0
        self.row: tuple[int, ...] | None = None
        self.dtype = np.dtype(np.float32)
        self._file: BinaryIO = path.open("wb")

    def write(self, rows: np.ndarray) -> None:
        """Append rows [B, ...].

        Raises:
            ValueError: the rows' shape differs from the first ones'.
        """
        if self.row is None:
            self.row, self.dtype = rows.shape[1:], rows.dtype
            header = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.count, *self.row)}
            npy.write_array_header_1_0(self._file, header)
        if rows.shape[1:] != self.row:
            raise ValueError(f"rows of shape {rows.shape[1:]} after rows of shape {self.row}")
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self.written += len(rows)

    def close(self) -> None:
        """Finish the file.

        Raises:
            DataError: the set gave fewer or more samples than it had promised.
        """
        self._file.close()
        if self.written != self.count:
            raise DataError(f"the set promises {self.count} samples and gives {self.written}", hint="check the set's description and files")

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


class RowReader:
    """Reads a ``.npy`` file from its first row to its last, as many rows at a time as wanted."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        npy.read_magic(self._file)
        shape, _, self.dtype = npy.read_array_header_1_0(self._file)
        self.count: int = shape[0]
        self.row: tuple[int, ...] = tuple(shape[1:])

    def take(self, rows: int) -> np.ndarray:
        """Return the next rows [B, ...]; fewer at the end."""
        size = math.prod(self.row)
        values = np.fromfile(self._file, dtype=self.dtype, count=rows * size)
        return values.reshape(len(values) // max(size, 1), *self.row)

    def __enter__(self) -> RowReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def side_by_side(first: Path, second: Path, *, at_once: int = 500_000) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the same rows of two files, about so many values at a time.

    Raises:
        ValueError: the files have different numbers or shapes of rows.
    """
    with RowReader(first) as left, RowReader(second) as right:
        if (left.count, left.row) != (right.count, right.row):
            raise ValueError(f"{first} holds {(left.count, *left.row)}, {second} holds {(right.count, *right.row)}")
        step = max(1, at_once // max(1, math.prod(left.row)))
        for _ in range(0, left.count, step):
            yield left.take(step), right.take(step)
