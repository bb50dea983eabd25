"""Checks the shape of plain data that came from outside: every key known, every value of its kind and within bounds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .refusal import Refused

Check = Callable[[Any, str], None]


def fields(known: Mapping[str, Check], *, optional: tuple[str, ...] = ()) -> Check:
    """An object with exactly these keys; the optional ones may be missing."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise Refused("format", f"{where} is no object")
        for name in value:
            if name not in known:
                raise Refused("format", f"{where} has an unknown key {name!r}", "a newer agent may know it")
        for name, inner in known.items():
            if name in value:
                inner(value[name], f"{where}.{name}")
            elif name not in optional:
                raise Refused("format", f"{where} lacks {name!r}")

    return check


def text(pattern: str, limit: int = 200) -> Check:
    """Text that matches a pattern as a whole."""
    compiled = re.compile(pattern)

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > limit or not compiled.fullmatch(value):
            raise Refused("format", f"{where} is not of the form {pattern}")

    return check


def number(least: int, most: int = 2**53 - 1) -> Check:
    """An integer within bounds."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not least <= value <= most:
            raise Refused("format", f"{where} is no integer from {least} to {most}")

    return check


def maybe(inner: Check) -> Check:
    """Null, or what another check demands."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def listed(inner: Check, least: int = 0, most: int = 64) -> Check:
    """A list without repetitions."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise Refused("format", f"{where} is no list of {least} to {most}")
        for item in value:
            inner(item, where)
        if len({repr(item) for item in value}) != len(value):
            raise Refused("format", f"{where} names something twice")

    return check


def mapped(key: Check, inner: Check, least: int = 0, most: int = 64) -> Check:
    """An object whose keys are free within a pattern."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or not least <= len(value) <= most:
            raise Refused("format", f"{where} is no object of {least} to {most} entries")
        for name, item in value.items():
            key(name, f"a key of {where}")
            inner(item, f"{where}.{name}")

    return check


def exactly(wanted: Any) -> Check:
    """One value."""

    def check(value: Any, where: str) -> None:
        if type(value) is not type(wanted) or value != wanted:
            raise Refused("format", f"{where} is not {wanted!r}")

    return check


def one_of(*wanted: str) -> Check:
    """One of some words."""

    def check(value: Any, where: str) -> None:
        if value not in wanted:
            raise Refused("format", f"{where} is none of: {', '.join(wanted)}")

    return check


def anything(value: Any, where: str) -> None:
    """Whatever canonical JSON can say; kept, shown, never acted on."""
