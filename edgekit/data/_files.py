"""The files behind a set: that they are there, and that they are the ones the description means."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from edgekit.core import digest
from edgekit.core.errors import DataError
from edgekit.core.resources import data_root


def fingerprint(files: Sequence[Path], expected: Mapping[str, str], name: str, url: str) -> dict[str, str]:
    """Return the SHA-256 of each file, by its name below their common folder.

    Args:
        files: the files that decide a set's content.
        expected: SHA-256 by file name; empty where the description gives none.
        name: the set, for messages.
        url: where the set can be fetched.

    Raises:
        DataError: a file is missing, unreadable, or not the described one.
    """
    found: dict[str, str] = {}
    root = os.path.commonpath([path.parent for path in files]) if files else ""
    for path in files:
        relative = path.relative_to(root).as_posix()
        found[relative] = _digest(path, name, url)
        if not expected:
            continue
        wanted = expected.get(relative, expected.get(path.name))
        if wanted is None:
            raise DataError(f"data set {name}: sha256 says nothing about {relative}", hint=f"add '{path.name}: {found[relative]}'")
        if wanted.lower() != found[relative]:
            raise DataError(
                f"{path}: is not the file that data set {name} describes (sha256 {found[relative][:12]}..., expected {wanted[:12]}...)",
                hint=f"fetch it again{' from ' + url if url else ''}, or correct sha256 if you changed it on purpose",
            )
    return found


def _digest(path: Path, name: str, url: str) -> str:
    try:
        status = path.stat()
        return _remembered(path, status.st_size, status.st_mtime_ns)
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror or problem} (data set {name})", hint=_where_to_find(path, url)) from problem


@cache
def _remembered(path: Path, size: int, changed: int) -> str:
    return digest.of_file(path)


def _where_to_find(path: Path, url: str) -> str:
    hints = []
    if path.is_relative_to(data_root()):
        hints.append(f"set EDGEKIT_DATA to the folder of the data packs (now {data_root()})")
    if url:
        hints.append(f"fetch it from {url}")
    return ", or ".join(hints) or "correct 'path' in the set's YAML; it is relative to that file"
