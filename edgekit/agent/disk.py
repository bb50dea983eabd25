"""Changes to the disk, each of which has happened or has not when the power fails: written aside, flushed, renamed, flushed again.

All of them go through functions of :mod:`os`, so that a test can end the process before any one of them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .refusal import Refused

CHUNK = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_new(path: Path, chunks: Iterable[bytes], mode: int = 0o644) -> None:
    """Write a file that must not exist yet, and flush it."""
    handle = os.open(path, _NEW, mode)
    try:
        for chunk in chunks:
            write_all(handle, chunk)
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes) -> None:
    """Write some bytes, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another in one step."""
    aside = path.with_name(f".{path.name}.new")
    remove_file(aside)
    write_new(aside, [data])
    os.replace(aside, path)
    flush(path.parent)


def relink(link: Path, target: str) -> None:
    """Point a symbolic link elsewhere in one step."""
    aside = link.with_name(f".{link.name}.new")
    remove_file(aside)
    os.symlink(target, aside)
    os.replace(aside, link)
    flush(link.parent)


def move(source: Path, place: Path) -> None:
    """Rename a flushed file or folder to where nothing is, and flush the folder."""
    os.rename(source, place)
    flush(place.parent)


def remove_file(path: Path) -> None:
    """Remove a file or a link, if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def remove_tree(path: Path) -> None:
    """Remove a folder, if it is there; links in it are removed, not followed."""
    if path.is_symlink() or path.is_file():
        remove_file(path)
    elif path.exists():
        shutil.rmtree(path)


def remove_empty(path: Path) -> None:
    """Remove a folder, if it is there and nothing is in it."""
    if path.is_dir() and not any(path.iterdir()):
        os.rmdir(path)


def make_folder(path: Path) -> None:
    """Make a folder and what is missing above it; others may read, not write."""
    if not path.is_dir():
        make_folder(path.parent)
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            return
        flush(path.parent)


def flush(path: Path) -> None:
    """Make sure that a file or folder has reached the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_folders(root: Path) -> None:
    """Flush a folder and all folders below it; the files in them have been flushed when they were written."""
    for folder, _, _ in os.walk(root, topdown=False):
        flush(Path(folder))


def read(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes; a link is not followed."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while chunk := os.read(handle, CHUNK):
            yield chunk
    finally:
        os.close(handle)


def read_small(path: Path, limit: int = 1 << 20) -> bytes:
    """Read a file of the agent's own.

    Raises:
        Refused: ``state``: longer than any that the agent writes.
    """
    data = bytearray()
    for chunk in read(path):
        data += chunk
        if len(data) > limit:
            raise Refused("state", f"{path.name} is longer than {limit} bytes")
    return bytes(data)


def sha256(path: Path) -> str:
    """Digest of a file."""
    sha = hashlib.sha256()
    for chunk in read(path):
        sha.update(chunk)
    return sha.hexdigest()


def guard(path: Path) -> None:
    """Refuse a place that someone else could change behind the agent's back.

    Raises:
        Refused: ``unsafe``: a link, another user's, or writable by group or others.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise Refused("unsafe", f"{path} is a link", "let it be a real folder or file")
    if found.st_uid not in (0, os.geteuid()):
        raise Refused("unsafe", f"{path} belongs to another user", f"chown it to the user that runs the agent ({os.geteuid()})")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused("unsafe", f"{path} can be written by others", f"chmod go-w {path}")


def free(path: Path) -> int:
    """Bytes that may still be written to the disk of a folder."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


@contextmanager
def alone(path: Path, *, wait: float = 5.0) -> Iterator[None]:
    """Hold a lock file; the system lets it go when the process ends in whatever way.

    Args:
        path: the lock file.
        wait: seconds to wait for an application that marks its model good; an update takes longer.

    Raises:
        Refused: ``busy``: another agent is at work.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        end = time.monotonic() + wait
        while not _locked(handle):
            if time.monotonic() >= end:
                raise Refused("busy", "another agent is at work on this device", "try again when it has ended")
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_full(problem: OSError) -> bool:
    """Whether there was no space for something."""
    return problem.errno in _FULL


def refusal(problem: OSError) -> Refused:
    """What the system refused, in the agent's words."""
    where = f"{problem.filename}: " if problem.filename else ""
    if is_full(problem):
        return Refused("space", f"{where}the device's disk is full", "free some space and flash again; what was sent is kept")
    return Refused("unsafe", f"{where}{problem.strerror or problem}", "check the folder, its owner and its disk")
