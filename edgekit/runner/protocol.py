"""Frames between the runner and whoever asks it: a JSON header, then the raw bytes of the arrays it names.

::

    "EDGE"  uint32 length of the header  header (UTF-8 JSON)  array  array ...

Every header carries the protocol's version and the arrays' names, types and shapes. Numbers are little-endian, arrays lie in C order.
Nothing in a frame is evaluated or unpickled, and no length is believed before it is checked.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .contract import DTYPES

VERSION = 1
MAGIC = b"EDGE"
HEADER_LIMIT = 1 << 20
ARRAYS_LIMIT = 1 << 32

_PREFIX = struct.Struct("<4sI")

Fill = Callable[[memoryview], int]
"""Reads into a view and returns the number of bytes read, 0 at the end of the stream; like ``io.RawIOBase.readinto``."""
Frame = tuple[dict[str, Any], dict[str, np.ndarray]]


class ProtocolError(Exception):
    """A frame that is malformed, cut short, too large or of another version."""


def pack(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[memoryview]:
    """Return the pieces of a frame, to be written one after the other; arrays are not copied.

    Raises:
        ProtocolError: an array of a type that can't travel.
    """
    listing, pieces = [], []
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise ProtocolError(f"array {name!r}: type {array.dtype.name} can't travel")
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        listing.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape)})
        pieces.append(plain.reshape(-1).view(np.uint8).data)
    text = json.dumps({**header, "protocol": VERSION, "arrays": listing}).encode()
    if len(text) > HEADER_LIMIT:
        raise ProtocolError(f"a header of {len(text)} bytes")
    return [memoryview(_PREFIX.pack(MAGIC, len(text)) + text), *pieces]


def unpack(fill: Fill) -> Frame | None:
    """Read one frame; None when the stream ends before it.

    Raises:
        ProtocolError: what comes is not a frame of this version.
    """
    prefix = bytearray(_PREFIX.size)
    if not _read(fill, memoryview(prefix), may_end=True):
        return None
    magic, length = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ProtocolError(f"no frame begins with {bytes(magic)!r}")
    if length > HEADER_LIMIT:
        raise ProtocolError(f"a header of {length} bytes")
    text = bytearray(length)
    _read(fill, memoryview(text))
    header = _header(bytes(text))
    listing = _listing(header)
    try:
        arrays = {name: np.empty(shape, dtype) for name, dtype, shape in listing}
    except (ValueError, MemoryError) as problem:
        raise ProtocolError(f"arrays that can't be held ({problem})") from problem
    for array in arrays.values():
        if array.size:
            _read(fill, array.reshape(-1).view(np.uint8).data)
    if sys.byteorder == "big":
        arrays = {name: array.byteswap() for name, array in arrays.items()}
    return header, arrays


def _read(fill: Fill, view: memoryview, *, may_end: bool = False) -> bool:
    done = 0
    while done < len(view):
        count = fill(view[done:])
        if count == 0:
            if done == 0 and may_end:
                return False
            raise ProtocolError("the stream ended within a frame")
        done += count
    return True


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ProtocolError(f"a header that is not JSON ({problem})") from problem
    if not isinstance(header, dict) or header.get("protocol") != VERSION:
        found = header.get("protocol") if isinstance(header, dict) else None
        raise ProtocolError(f"protocol {found!r}, this is {VERSION}")
    return header


def _listing(header: dict[str, Any]) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    try:
        arrays = [(entry["name"], DTYPES[entry["dtype"]], tuple(entry["shape"])) for entry in header["arrays"]]
        total = 0
        for name, dtype, shape in arrays:
            if not isinstance(name, str) or any(type(size) is not int or size < 0 for size in shape):
                raise ProtocolError(f"array {name!r}: shape {shape}")
            total += math.prod(shape) * dtype.itemsize
    except (KeyError, TypeError, ValueError) as problem:
        raise ProtocolError(f"arrays that are not described ({problem!r})") from problem
    if len({name for name, _, _ in arrays}) != len(arrays):
        raise ProtocolError("two arrays of one name")
    if total > ARRAYS_LIMIT:
        raise ProtocolError(f"{total} bytes of arrays, at most {ARRAYS_LIMIT} may come at once")
    return arrays
