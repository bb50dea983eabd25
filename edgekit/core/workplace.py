"""Folders that appear whole or not at all, and whose leftovers are told from work in progress when a process was killed.

Who fills a temporary folder holds a lock on it, which the system lets go when the process ends in whatever way. A process number
in the name would not do: numbers are used again, and mean nothing in another container that shares the disk.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def workplace(parent: Path, prefix: str) -> Iterator[Path]:
    """Make an empty folder for work in progress; what lies under its name at the end is removed.

    Args:
        parent: where to make it: on the disk on which the result will be.
        prefix: start of its name; eight hexadecimal digits follow.

    Raises:
        OSError: the folder can't be made.
    """
    folder, lock = _claimed(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield the folders that killed processes left; nobody else takes one while it is yielded."""
    name = re.compile(re.escape(prefix) + "[0-9a-f]{8}")
    for path in sorted(parent.iterdir()):
        if not name.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        lock = _lock(path, wait=False)
        if lock is None:
            continue
        try:
            yield path
        finally:
            os.close(lock)


@contextmanager
def claimed(folder: Path) -> Iterator[Path | None]:
    """Make a folder, or take one that an ended process left, and keep others from it; None if another process is at work in it.

    Raises:
        OSError: the folder can't be made.
    """
    folder.mkdir(exist_ok=True)
    lock = _lock(folder, wait=False)
    try:
        yield None if lock is None else folder
    finally:
        if lock is not None:
            os.close(lock)


def put(work: Path, place: Path) -> None:
    """Move a finished folder to its place; what was there before lies under ``work`` afterwards.

    Where the kernel can exchange two names, there is no moment at which ``place`` is missing. Where it can't, a folder that a kill
    left aside is brought back by :func:`restore`.

    Raises:
        OSError: the folder can't be moved.
    """
    while True:
        if not os.path.lexists(place):
            if move(work, place):
                break
            continue
        try:
            _exchange(work, place)
            break
        except OSError as problem:
            if problem.errno in (errno.ENOSYS, errno.EINVAL):
                _swap_in_steps(work, place)
                break
            if problem.errno != errno.ENOENT or not work.exists():
                raise
    flush(place.parent)


def move(work: Path, place: Path) -> bool:
    """Move a finished folder to a place where nothing is; False if something is there.

    Raises:
        OSError: the folder can't be moved.
    """
    try:
        work.rename(place)
    except OSError as problem:
        if problem.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    flush(place.parent)
    return True


def restore(place: Path) -> None:
    """Bring back what a killed :func:`put` had moved aside, and remove what is no longer needed."""
    for aside in abandoned(place.parent, _aside(place)):
        if not place.exists():
            aside.rename(place)
        else:
            shutil.rmtree(aside, ignore_errors=True)


def flush(path: Path) -> None:
    """Make sure that a file or folder has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_tree(root: Path) -> None:
    """Make sure that a folder and everything below it have reached the disk."""
    for path in (*root.rglob("*"), root):
        flush(path)


def _claimed(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(4)}"
        folder.mkdir()
        lock = _lock(folder, wait=True)
        if lock is not None:
            return folder, lock


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Lock a folder; None if someone else holds it, or removed it in between."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.path.samestat(os.fstat(handle), folder.stat()):
            return handle
    except OSError:  # held by another process, gone, or a disk without locks: then leftovers stay
        if wait and folder.exists():
            return handle
    os.close(handle)
    return None


def _exchange(first: Path, second: Path) -> None:
    """Exchange two names in one step.

    Raises:
        OSError: ``ENOENT`` if one is missing; ``ENOSYS`` or ``EINVAL`` where the system or the disk can't.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(second))


def _swap_in_steps(work: Path, place: Path) -> None:
    aside = place.with_name(f"{_aside(place)}{secrets.token_hex(4)}")
    lock = _lock(place, wait=True)
    try:
        place.rename(aside)
        try:
            work.rename(place)
        except OSError:
            aside.rename(place)
            raise
        aside.rename(work)
    finally:
        if lock is not None:
            os.close(lock)


def _aside(place: Path) -> str:
    return f".{place.name}.old-"


def remembered(file: Path | None, decide: Callable[[], Any]) -> Any:
    """Return what a killed run decided, or decide and write it down; what was measured for it would not come out the same again.

    Args:
        file: where it is kept; None for nowhere.
        decide: returns plain data.
    """
    if file is not None and file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    text = json.dumps(decide())
    if file is not None:
        temporary = file.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    return json.loads(text)
