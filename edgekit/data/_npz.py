"""Arrays inside an .npz file read row by row, so that a file larger than memory does no harm."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from edgekit.core.errors import DataError, closest

_PIECE = 1 << 16


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an .npz file; whatever is wrong with it while it is read becomes a DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as problem:
        raise DataError(f"{path}: is not a whole .npz file ({problem})", hint="write it with numpy.savez, or fetch it again") from problem


class Rows:
    """One array of an .npz file as a stream of rows, to be taken in ascending order.

    Attributes:
        dtype: element type.
        shape: shape of the whole array.
    """

    def __init__(self, archive: zipfile.ZipFile, member: str) -> None:
        self._where = f"{archive.filename}: array {member!r}"
        self._stream = _open(archive, member)
        self.shape, self.dtype, size = self._header(archive, member)
        self._width = self.dtype.itemsize * math.prod(self.shape[1:])
        if size != self._width * self.shape[0]:
            raise DataError(f"{self._where} is cut short", hint="write it again with numpy.savez")
        self._at = 0
        self._last: tuple[int, np.ndarray] = (-1, np.empty(0, self.dtype))

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def row(self, index: int) -> np.ndarray:
        """Return row ``index``, which must not lie before the one read last."""
        if index != self._last[0]:
            data = self._bytes(index * self._width, self._width)
            self._last = (index, np.frombuffer(data, self.dtype).reshape(self.shape[1:]))
        return self._last[1]

    def span(self, start: int, stop: int) -> bytes:
        """Return the raw bytes of rows ``start`` to ``stop``; none of them may lie before the one read last."""
        return self._bytes(start * self._width, (stop - start) * self._width)

    def _bytes(self, start: int, size: int) -> bytes:
        if start < self._at:
            raise DataError(f"{self._where} is not in ascending order", hint="offsets must ascend from sample to sample")
        while self._at < start:
            self._at += len(self._read(min(_PIECE, start - self._at)))
        data = self._read(size)
        self._at += size
        return data

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise DataError(f"{self._where} is cut short", hint="write it again with numpy.savez")
        return data

    def _header(self, archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype, int]:
        try:
            version = npy.read_magic(self._stream)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read(self._stream)
        except (ValueError, KeyError) as problem:
            raise DataError(f"{self._where} has no readable header ({problem})", hint="write it again with numpy.savez") from problem
        if dtype.hasobject:
            raise DataError(f"{self._where} holds Python objects, which edgekit does not execute", hint="store plain numbers or texts")
        if fortran and len(shape) > 1:
            raise DataError(f"{self._where} is stored column by column", hint="save numpy.ascontiguousarray(array) instead")
        if not shape:
            raise DataError(f"{self._where} is a single value, not one a sample", hint="name an array whose first axis is the sample")
        return shape, dtype, archive.getinfo(f"{member}.npy").file_size - self._stream.tell()


def _open(archive: zipfile.ZipFile, member: str) -> IO[bytes]:
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    if member not in names:
        raise DataError(f"{archive.filename}: holds no array {member!r}", hint=closest(member, names))
    return archive.open(f"{member}.npy")
