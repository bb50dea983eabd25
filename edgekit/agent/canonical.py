"""JSON of which there is only one way to write a value: what is signed is bytes, and two readers must not see two things in them.

Sorted keys, no blanks, ASCII, no fractions (their spelling differs between languages), no key twice, bounded in size and depth.
"""

from __future__ import annotations

import json
from typing import Any

from .refusal import Refused

_LARGEST = 2**53 - 1
"""Integers beyond it lose digits in readers that keep numbers as doubles."""
_DEPTH = 12


def encode(value: Any) -> bytes:
    """Write plain data canonically.

    Raises:
        ValueError: a fraction, a number beyond 2**53, or something that is no plain data.
    """
    _check(value, _DEPTH)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def decode(data: bytes, what: str, limit: int = 1 << 20) -> dict[str, Any]:
    """Read a canonical JSON object.

    Args:
        data: the bytes.
        what: what they should be, for the message.
        limit: bytes that are looked at at most.

    Raises:
        Refused: ``format``: too long, not JSON, not canonical.
    """
    if len(data) > limit:
        raise Refused("format", f"{what} has {len(data)} bytes, {limit} at most are read")
    try:
        value = json.loads(data.decode("ascii"), parse_float=_no_fraction, parse_constant=_no_fraction)
        same = isinstance(value, dict) and encode(value) == data
    except (ValueError, RecursionError) as problem:
        raise Refused("format", f"{what} is not canonical JSON ({type(problem).__name__})") from problem
    if not same:
        raise Refused("format", f"{what} is not in canonical form")
    found: dict[str, Any] = value
    return found


def _no_fraction(text: str) -> None:
    raise ValueError(f"{text} is no integer")


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key that is no text")
        for inner in value.values():
            _check(inner, depth - 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check(inner, depth - 1)
    elif isinstance(value, bool) or value is None or isinstance(value, str):
        return
    elif not isinstance(value, int) or abs(value) > _LARGEST:
        raise ValueError(f"{value!r} can't be signed")
