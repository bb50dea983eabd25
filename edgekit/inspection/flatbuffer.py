"""A reader for FlatBuffers that checks every offset, so that a corrupt file is an error and never a wild read.

Reference: FlatBuffers internals, https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Any

Bytes = bytes | mmap.mmap


class CorruptBufferError(Exception):
    """An offset or a length leaves the buffer."""


@dataclass(frozen=True)
class Table:
    """A table: fields by number, every one optional."""

    data: Bytes
    position: int

    def scalar(self, field: int, code: str, default: int | float = 0) -> Any:
        """Read a number; ``code`` is struct's letter for it."""
        at = self._field(field)
        return default if at is None else unpack(self.data, code, at)

    def table(self, field: int) -> Table | None:
        """Follow the offset to another table."""
        at = self._field(field)
        return None if at is None else Table(self.data, _follow(self.data, at))

    def string(self, field: int) -> str:
        """Read a string; empty where there is none."""
        start, count = self.vector(field, 1)
        return bytes(self.data[start : start + count]).decode("utf-8", errors="replace")

    def numbers(self, field: int, code: str) -> tuple[Any, ...]:
        """Read a vector of numbers."""
        start, count = self.vector(field, struct.calcsize(code))
        return struct.unpack_from(f"<{count}{code}", self.data, start) if count else ()

    def tables(self, field: int) -> list[Table]:
        """Read a vector of tables."""
        start, count = self.vector(field, 4)
        return [Table(self.data, _follow(self.data, start + 4 * index)) for index in range(count)]

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """Return where a vector's elements start and how many there are.

        Raises:
            CorruptBufferError: it would end behind the buffer.
        """
        at = self._field(field)
        if at is None:
            return 0, 0
        start = _follow(self.data, at)
        count = int(unpack(self.data, "I", start))
        if start + 4 + count * width > len(self.data):
            raise CorruptBufferError(f"a vector of {count} elements at byte {start} of {len(self.data)}")
        return start + 4, count

    def _field(self, field: int) -> int | None:
        table = self.position - int(unpack(self.data, "i", self.position))
        entry = 4 + 2 * field
        if entry + 2 > unpack(self.data, "H", table):
            return None
        offset = int(unpack(self.data, "H", table + entry))
        return self.position + offset if offset else None


def root(data: Bytes) -> Table:
    """Return the root table."""
    return Table(data, _follow(data, 0))


def unpack(data: Bytes, code: str, at: int) -> Any:
    """Read one number.

    Raises:
        CorruptBufferError: it lies outside.
    """
    if at < 0 or at + struct.calcsize(code) > len(data):
        raise CorruptBufferError(f"a field at byte {at} of {len(data)}")
    return struct.unpack_from(f"<{code}", data, at)[0]


def _follow(data: Bytes, at: int) -> int:
    return at + int(unpack(data, "I", at))
