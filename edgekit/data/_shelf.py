"""Named files in a folder, an uncompressed tar or a zip, so that readers need not care which."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from edgekit.core.errors import DataError


class Shelf(ABC):
    """Named files somewhere."""

    @abstractmethod
    def names(self) -> list[str]:
        """Names of all files, sorted, with forward slashes."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Content of one file."""

    @abstractmethod
    def files(self, names: list[str]) -> list[Path]:
        """Files on disk that hold the named ones."""


class Folder(Shelf):
    """A folder on disk, with everything below it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        """Names relative to the folder; hidden files are left out."""
        below = (path for path in self._path.rglob("*") if path.is_file())
        names = (path.relative_to(self._path).as_posix() for path in below)
        return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))

    def read(self, name: str) -> bytes:
        """Content of one file."""
        try:
            return (self._path / name).read_bytes()
        except OSError as problem:
            raise DataError(f"{self._path / name}: {problem.strerror or problem}", hint="check the file's rights") from problem

    def files(self, names: list[str]) -> list[Path]:
        """The named files themselves."""
        return [self._path / name for name in names]


class Tar(Shelf):
    """An uncompressed tar: an index of offsets is kept, nothing is unpacked to disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                while (member := archive.next()) is not None:
                    if member.isreg():
                        self._index[member.name.removeprefix("./")] = (member.offset_data, member.size)
                    archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header it has seen
        except (tarfile.TarError, EOFError, ValueError, OSError) as problem:
            raise DataError(
                f"{path}: is not a whole, uncompressed tar ({problem})", hint="fetch it again, or write it with tar -cf"
            ) from problem

    def names(self) -> list[str]:
        """Names of all members that are files."""
        return sorted(self._index)

    def read(self, name: str) -> bytes:
        """Content of one member."""
        offset, size = self._index[name]
        try:
            with self._path.open("rb") as stream:
                stream.seek(offset)
                return stream.read(size)
        except OSError as problem:
            raise DataError(f"{self._path}: {problem.strerror or problem}", hint="check the file's rights") from problem

    def files(self, names: list[str]) -> list[Path]:
        """The tar."""
        return [self._path]


class Zip(Shelf):
    """A zip, read member by member."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as problem:
            raise DataError(f"{path}: is not a whole zip ({problem})", hint="fetch it again") from problem

    def names(self) -> list[str]:
        """Names of all members that are files."""
        return sorted(name for name in self._archive.namelist() if not name.endswith("/"))

    def read(self, name: str) -> bytes:
        """Content of one member."""
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, zlib.error) as problem:
            raise DataError(f"{self._path}/{name}: can't be read ({problem})", hint="fetch the zip again") from problem

    def files(self, names: list[str]) -> list[Path]:
        """The zip."""
        return [self._path]


def open_shelf(path: Path) -> Shelf:
    """Open a folder, a zip or a tar."""
    if path.is_dir():
        return Folder(path)
    return Zip(path) if path.suffix.lower() == ".zip" else Tar(path)


def beside(shelf: Shelf, path: Path, name: str) -> tuple[Path | None, Callable[[], bytes]]:
    """Find a file inside a shelf or next to it.

    Args:
        shelf: the opened shelf.
        path: where it lies.
        name: the file.

    Returns:
        The file's path where it lies outside, else None; and what reads it.

    Raises:
        DataError: when read, where there is no such file.
    """
    if name in shelf.names():
        return None, lambda: shelf.read(name)
    outside = path.parent / name

    def read() -> bytes:
        try:
            return outside.read_bytes()
        except OSError as problem:
            raise DataError(f"{path}: {name} lies neither in it nor beside it", hint="name a file inside or beside 'path'") from problem

    return outside, read
