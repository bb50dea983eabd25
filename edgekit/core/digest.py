"""Digests: the names under which results are stored and compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def of_bytes(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            sha.update(piece)
    return sha.hexdigest()


def of_tree(root: Path, *, pattern: str = "*", skip: tuple[str, ...] = ()) -> str:
    """Return the SHA-256 over names and contents of all files below a folder (or of the one file given)."""
    if root.is_file():
        return of_file(root)
    sha = hashlib.sha256()
    for path in sorted(p for p in root.rglob(pattern) if p.is_file() and p.name not in skip):
        sha.update(path.relative_to(root).as_posix().encode() + b"\0" + of_file(path).encode())
    return sha.hexdigest()


def of_json(value: Any) -> str:
    """Return the SHA-256 of plain data in canonical JSON (sorted keys, no blanks)."""
    return of_bytes(canonical_json(value))


def canonical_json(value: Any) -> bytes:
    """Return plain data as JSON whose bytes depend on its value alone."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str).encode()
