"""Frames between host and agent over any byte stream: a JSON header and raw bytes; no length is believed before it is checked."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

MAGIC = b"EDKA"
HEADER_LIMIT = 4 << 20
BODY_LIMIT = 1 << 20
_PREFIX = struct.Struct("<4sII")

Frame = tuple[dict[str, Any], bytes]


class WireError(Exception):
    """The stream ended within a frame, or what came is no frame."""


def send(sink: BinaryIO, header: dict[str, Any], body: bytes = b"") -> None:
    """Write one frame; the caller flushes."""
    text = json.dumps(header).encode()
    if len(text) > HEADER_LIMIT or len(body) > BODY_LIMIT:
        raise WireError(f"a frame of {len(text)} + {len(body)} bytes")
    sink.write(_PREFIX.pack(MAGIC, len(text), len(body)) + text + body)


def receive(source: BinaryIO) -> Frame | None:
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
