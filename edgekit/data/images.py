"""Reads pictures from a folder or a tar, labelled by subfolder, by a CSV file, or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgekit.core.datasets import Record
from edgekit.core.errors import DataError, closest
from edgekit.core.plugin import Reader
from edgekit.core.resources import expand
from edgekit.data._images import decode
from edgekit.data._shelf import Shelf, open_shelf

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class _Entry:
    name: str
    label: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


class Images(Reader):
    """One picture a sample, as RGB; in the order of the CSV file, or of the names."""

    path: str = Field(description="Folder, or uncompressed .tar.")
    prefix: str = Field("", description="Folder inside 'path' that holds the pictures.")
    pattern: str = Field("*", description="Keep to names like this glob.")
    labels: Literal["folders"] | str | None = Field(
        None, description="'folders' for one subfolder a class, or a CSV file inside or beside 'path'; leave out for none."
    )
    file_column: str = Field("file", description="Column of the CSV file with the picture's name.")
    label_column: str = Field("label", description="Column of the CSV file with the class.")
    metadata: tuple[str, ...] = Field((), description="Further columns of the CSV file to keep.")
    input: str = Field("input", description="The model's input.")

    def files(self, base: Path) -> list[Path]:
        """The tar, or every picture and the CSV file.

        Raises:
            DataError: not a folder or tar, or the CSV file does not fit.
        """
        path = expand(self.path, base)
        if not path.exists():
            return [path]
        shelf = open_shelf(path)
        names = [self.prefix_ + entry.name for entry in self._entries(shelf, path)]
        beside = path.parent / self.labels if self.labels and self.labels != "folders" else None
        return shelf.files([*names, *self._inside(shelf)]) + ([beside] if beside and not self._inside(shelf) else [])

    def count(self, base: Path) -> int:
        """Number of pictures."""
        path = expand(self.path, base)
        return len(self._entries(open_shelf(path), path))

    def stream(self, base: Path, indices: Sequence[int]) -> Iterator[Record]:
        """Yield pictures as uint8 [H, W, 3].

        Raises:
            DataError: a file that is no picture, or a damaged one.
        """
        path = expand(self.path, base)
        shelf = open_shelf(path)
        entries = self._entries(shelf, path)
        for index in indices:
            entry = entries[index]
            name = self.prefix_ + entry.name
            yield Record({self.input: decode(shelf.read(name), f"{path}/{name}")}, entry.label, entry.metadata)

    def classes(self, base: Path) -> tuple[str, ...]:
        """The subfolders' names, sorted, where they are the labels."""
        if self.labels != "folders":
            return ()
        path = expand(self.path, base)
        return tuple(sorted({str(entry.label) for entry in self._entries(open_shelf(path), path)}))

    @property
    def prefix_(self) -> str:
        """The prefix, with a slash where there is one."""
        return f"{self.prefix.strip('/')}/" if self.prefix.strip("/") else ""

    def _entries(self, shelf: Shelf, path: Path) -> list[_Entry]:
        names = [name.removeprefix(self.prefix_) for name in shelf.names() if name.startswith(self.prefix_)]
        pictures = [name for name in names if name.lower().endswith(SUFFIXES) and fnmatch(name, self.pattern)]
        if self.labels is None:
            return [_Entry(name) for name in pictures]
        if self.labels == "folders":
            for name in pictures:
                if "/" not in name:
                    raise DataError(f"{path}: {name} lies in no class's subfolder", hint="labels: folders needs path/CLASS/picture.jpg")
            return [_Entry(name, name.partition("/")[0]) for name in pictures]
        return self._listed(shelf, path, set(names))

    def _listed(self, shelf: Shelf, path: Path, names: set[str]) -> list[_Entry]:
        """Entries of the CSV file; pictures that it does not name are not part of the set."""
        entries = []
        where, text = self._csv(shelf, path)
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        for column in (self.file_column, self.label_column, *self.metadata):
            if column not in (rows.fieldnames or ()):
                raise DataError(f"{where}: has no column {column!r}", hint=closest(column, rows.fieldnames or ()))
        try:
            for row in rows:
                name = row[self.file_column] or ""
                if row[self.label_column] is None:
                    raise DataError(f"{where}: line {rows.line_num} is cut short", hint="mend that row")
                if name not in names:
                    raise DataError(f"{where}: line {rows.line_num}: {path} holds no {name!r}", hint=closest(name, names))
                if fnmatch(name, self.pattern):
                    entries.append(_Entry(name, row[self.label_column], {column: row[column] or "" for column in self.metadata}))
        except csv.Error as problem:
            raise DataError(f"{where}: line {rows.line_num}: {problem}", hint="mend that row") from problem
        return entries

    def _inside(self, shelf: Shelf) -> list[str]:
        """Names under which the CSV file lies among the pictures."""
        wanted = (f"{self.prefix_}{self.labels}", str(self.labels))
        return [name for name in shelf.names() if name in wanted][:1] if self.labels and self.labels != "folders" else []

    def _csv(self, shelf: Shelf, path: Path) -> tuple[str, str]:
        try:
            for name in self._inside(shelf):
                return f"{path}/{name}", shelf.read(name).decode("utf-8-sig")
            beside = path.parent / str(self.labels)
            return str(beside), beside.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as problem:
            raise DataError(
                f"{path}: the labels {self.labels} can't be read ({problem})", hint="a CSV file inside or beside 'path'"
            ) from problem
