"""Frames between host and agent over any byte stream: a JSON header and raw bytes; no length is believed before it is checked."""

from __future__ import annotations

import json
import os
import select
import struct
from typing import Any, BinaryIO

MAGIC = b"EDKA"
HEADER_LIMIT = 4 << 20
BODY_LIMIT = 1 << 20
_PREFIX = struct.Struct("<4sII")

Frame = tuple[dict[str, Any], bytes]


class WireError(Exception):
    """The stream ended within a frame, or what came is no frame."""


class Line:
    """What comes from a host; a line on which nothing comes for too long is given up, and with it whatever it held locked.

    Args:
        handle: open pipe or socket.
        patience: seconds.
    """

    def __init__(self, handle: int, patience: float) -> None:
        self._handle = handle
        self._patience = patience

    def read(self, size: int) -> bytes:
        """Read so many bytes; fewer at the end.

        Raises:
            WireError: nothing came for too long, as after a cut that nobody was told of.
        """
        data = bytearray()
        while len(data) < size:
            if not select.select([self._handle], [], [], self._patience)[0]:
                raise WireError(f"nothing came for {self._patience:g} s")
            piece = os.read(self._handle, size - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)


def send(sink: BinaryIO, header: dict[str, Any], body: bytes = b"") -> None:
    """Write one frame; the caller flushes."""
    text = json.dumps(header).encode()
    if len(text) > HEADER_LIMIT or len(body) > BODY_LIMIT:
        raise WireError(f"a frame of {len(text)} + {len(body)} bytes")
    sink.write(_PREFIX.pack(MAGIC, len(text), len(body)) + text + body)


def receive(source: BinaryIO | Line) -> Frame | None:
    """Read one frame; None when the stream ends before it.

    Raises:
        WireError: what comes is no frame.
    """
    prefix = source.read(_PREFIX.size)
    if not prefix:
        return None
    if len(prefix) < _PREFIX.size:
        raise WireError("the stream ended within a frame")
    magic, length, size = _PREFIX.unpack(prefix)
    if magic != MAGIC or length > HEADER_LIMIT or size > BODY_LIMIT:
        raise WireError(f"no frame begins with {prefix[:12]!r}")
    text, body = source.read(length), source.read(size)
    if len(text) < length or len(body) < size:
        raise WireError("the stream ended within a frame")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise WireError("a header that is not JSON") from problem
    if not isinstance(header, dict):
        raise WireError("a header that is no object")
    return header, body
