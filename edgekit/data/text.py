"""Reads texts with labels from CSV, TSV, JSONL, or lines that follow a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from edgekit.core.datasets import Record
from edgekit.core.errors import DataError
from edgekit.core.plugin import Reader
from edgekit.core.resources import expand
from edgekit.data._text import Column, Format, Row, cell, format_of, read_jsonl, read_pattern, read_table

Columns = Annotated[tuple[Column, ...], BeforeValidator(lambda value: (value,) if isinstance(value, int | str) else value)]


class Text(Reader):
    """One sample a row; columns by name or by position from 0."""

    path: str = Field(description="The file.")
    format: Format | None = Field(None, description="csv, tsv, jsonl or lines; told by the file's name where left out.")
    header: bool = Field(False, description="Whether the first row of a CSV or TSV file names the columns.")
    pattern: str | None = Field(None, description="For lines: a regular expression with named groups, which become the columns.")
    text: Columns = Field(min_length=1, description="Column of the text; several are joined.")
    join: str = Field(" ", description="What stands between joined columns.")
    pair: Column | None = Field(None, description="Column of the second text, for tasks on pairs.")
    label: Column | None = Field(None, description="Column of the label; leave out for none.")
    metadata: tuple[Column, ...] = Field((), description="Further columns to keep.")
    unique: bool = Field(False, description="Count a text that stands several times once, where it stands first.")
    encoding: str = Field("utf-8", description="Encoding of the file.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            named = not value or re.compile(value).groupindex
        except re.error as problem:
            raise ValueError(f"no regular expression ({problem})") from problem
        if not named:
            raise ValueError("needs named groups, such as (?P<text>.*)")
        return value

    @model_validator(mode="after")
    def _pattern_with_lines(self) -> Text:
        if (self.pattern is not None) != (self.format == "lines"):
            raise ValueError("'format: lines' and 'pattern' go together")
        return self

    def files(self, base: Path) -> list[Path]:
        """The one file."""
        return [expand(self.path, base)]

    def count(self, base: Path) -> int:
        """Number of rows; reads the file once."""
        return sum(1 for _ in self._counted(expand(self.path, base)))

    def stream(self, base: Path, indices: Sequence[int]) -> Iterator[Record]:
        """Yield rows in the order of the file.

        Raises:
            DataError: a malformed row or a missing column, with its line number.
        """
        path = expand(self.path, base)
        wanted = iter(indices)
        following = next(wanted, None)
        for position, (number, row) in enumerate(self._counted(path)):
            if position == following:
                yield self._record(row, path, number)
                following = next(wanted, None)
            if following is None:
                return

    def _counted(self, path: Path) -> Iterator[tuple[int, Row]]:
        """Rows that count, each with its line; of texts that agree but for spaces only the first where they are to be unique."""
        seen: set[int] = set()
        for number, row in self._rows(path):
            if self.unique:
                texts = self._record(row, path, number).values
                own = hash(tuple(" ".join(str(text).split()) for text in texts.values()))
                if own in seen:
                    continue
                seen.add(own)
            yield number, row

    def _rows(self, path: Path) -> Iterator[tuple[int, Row]]:
        kind = self.format or format_of(path)
        if kind == "jsonl":
            return read_jsonl(path, encoding=self.encoding)
        if kind == "lines":
            return read_pattern(path, self.pattern or "", encoding=self.encoding)
        return read_table(path, kind, header=self.header, encoding=self.encoding)

    def _record(self, row: Row, path: Path, number: int) -> Record:
        def text(column: Column) -> str:
            value: Any = cell(row, column, path, number)
            if not isinstance(value, str):
                raise DataError(f"{path}: line {number}: column {column!r} is {type(value).__name__}, not text", hint="name another column")
            return value

        values: dict[str, Any] = {"text": self.join.join(text(column) for column in self.text)}
        if self.pair is not None:
            values["pair"] = text(self.pair)
        label = None if self.label is None else cell(row, self.label, path, number)
        return Record(values, label, {str(column): str(cell(row, column, path, number)) for column in self.metadata})
