"""Reads arrays from an .npz file, one row a sample; a row may also be an encoded picture (JPEG, PNG) in one long run of bytes.

Large picture sets are often packed so: ``blob`` holds all files end to end, ``offset`` [N + 1] says where each begins.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from edgekit.core.datasets import Record
from edgekit.core.errors import DataError
from edgekit.core.plugin import Reader
from edgekit.core.resources import expand
from edgekit.data._images import decode
from edgekit.data._npz import Rows, opened


class Npz(Reader):
    """Arrays of an .npz file; the first axis is the sample."""

    path: str | tuple[str, ...] = Field(description="The .npz file, or several with the same arrays, one after another.")
    inputs: dict[str, str] = Field(min_length=1, description="Array of each model input: {input name: array name}.")
    labels: str | None = Field(None, description="Array of the labels; leave out for none.")
    offsets: str | None = Field(None, description="Array [N + 1] of offsets; the input is then encoded pictures end to end.")
    metadata: dict[str, str] = Field(default_factory=dict, description="Further columns: {column: array name}.")

    def files(self, base: Path) -> list[Path]:
        """The files, in order."""
        return [expand(path, base) for path in ([self.path] if isinstance(self.path, str) else self.path)]

    def count(self, base: Path) -> int:
        """Rows of the arrays, over all files.

        Raises:
            DataError: no such array, or arrays of different lengths.
        """
        return sum(self._rows_of(path) for path in self.files(base))

    def _rows_of(self, path: Path) -> int:
        with opened(path) as archive:
            counts = {name: len(Rows(archive, name)) for name in self._per_sample()}
        if self.offsets:
            counts[self.offsets] -= 1
        first, number = next(iter(counts.items()))
        for name, other in counts.items():
            if other != number:
                raise DataError(f"{path}: {first!r} has {number} samples, {name!r} has {other}", hint="name arrays that belong together")
        return number

    def stream(self, base: Path, indices: Sequence[int]) -> Iterator[Record]:
        """Yield rows one after another.

        Raises:
            DataError: a damaged file or picture.
        """
        files = self.files(base)
        if len(files) == 1:
            yield from self._stream_of(files[0], indices)
            return
        start = 0
        for path in files:
            stop = start + self._rows_of(path)
            first, last = bisect_left(indices, start), bisect_left(indices, stop)
            if first < last:
                yield from self._stream_of(path, array("q", (index - start for index in indices[first:last])))
            start = stop

    def _stream_of(self, path: Path, indices: Sequence[int]) -> Iterator[Record]:
        with opened(path) as archive:
            rows = {name: Rows(archive, name) for name in {*self._per_sample(), *self.inputs.values()}}
            self._check_encoded(rows, path)
            for index in indices:
                values: dict[str, np.ndarray | str] = {key: self._value(rows, name, index, path) for key, name in self.inputs.items()}
                label = _plain(rows[self.labels].row(index)) if self.labels else None
                yield Record(values, label, {key: str(_plain(rows[name].row(index))) for key, name in self.metadata.items()})

    def _per_sample(self) -> list[str]:
        """Arrays that have one row a sample (and one more for offsets)."""
        inputs = [self.offsets] if self.offsets else list(self.inputs.values())
        return [*inputs, *([self.labels] if self.labels else []), *self.metadata.values()]

    def _check_encoded(self, rows: dict[str, Rows], path: Path) -> None:
        for name in self.inputs.values() if self.offsets else ():
            if rows[name].dtype != np.uint8 or len(rows[name].shape) != 1:
                raise DataError(
                    f"{path}: {name!r} is no run of bytes", hint="with 'offsets' an input is uint8 [bytes], pictures end to end"
                )

    def _value(self, rows: dict[str, Rows], name: str, index: int, path: Path) -> np.ndarray:
        if self.offsets is None:
            return rows[name].row(index)
        start, stop = int(rows[self.offsets].row(index)), int(rows[self.offsets].row(index + 1))
        if not 0 <= start <= stop <= len(rows[name]):
            raise DataError(f"{path}: offsets of sample {index} lie outside {name!r}", hint=f"{self.offsets!r} must ascend from 0")
        return decode(rows[name].span(start, stop), f"{path}: sample {index}")


def _plain(value: np.ndarray) -> object:
    return value.item() if value.shape == () else value
