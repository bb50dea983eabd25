"""Rows of CSV, TSV, JSONL and pattern files, one at a time, each with the line it stands on."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from edgekit.core.errors import DataError, closest

Format = Literal["csv", "tsv", "jsonl", "lines"]
Column = int | str
Row = dict[Any, Any]


def format_of(path: Path) -> Format:
    """Guess a file's format from its name.

    Raises:
        DataError: the name says nothing.
    """
    known: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    if path.suffix.lower() not in known:
        raise DataError(f"{path}: the name does not tell the format", hint="add 'format: csv', tsv, jsonl or lines")
    return known[path.suffix.lower()]


def read_table(path: Path, kind: Literal["csv", "tsv"], *, header: bool, encoding: str) -> Iterator[tuple[int, Row]]:
    """Yield line number and cells, by position and, with a header, by name. CSV is quoted as in RFC 4180, TSV is not quoted at all.

    Raises:
        DataError: a row with another number of cells than the first, a broken quotation.
    """
    names: list[str] = []
    width = 0
    lines = _Lines(path, encoding)
    rows = csv.reader(lines, strict=True) if kind == "csv" else csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as problem:
            raise DataError(f"{path}: line {rows.line_num}: {problem}", hint="mend the quotes of that row") from problem
        if not cells:
            continue
        width = width or len(cells)
        if len(cells) != width:
            raise DataError(f"{path}: line {rows.line_num}: {len(cells)} cells where the first row has {width}", hint="mend that row")
        if header and not names:
            names = cells
            continue
        yield rows.line_num, {**dict(enumerate(cells)), **dict(zip(names, cells, strict=False))}


def read_jsonl(path: Path, *, encoding: str) -> Iterator[tuple[int, Row]]:
    """Yield line number and content of each line, a JSON object.

    Raises:
        DataError: a line that is no JSON object.
    """
    for number, line in enumerate(_Lines(path, encoding), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as problem:
            raise DataError(f"{path}: line {number} is not JSON ({problem})", hint="one object a line") from problem
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is {type(row).__name__}, not an object", hint='write {"text": ..., "label": ...}')
        yield number, row


def read_pattern(path: Path, pattern: str, *, encoding: str) -> Iterator[tuple[int, Row]]:
    """Yield line number and named groups of each line.

    Raises:
        DataError: a line that the pattern does not match.
    """
    expression = re.compile(pattern)
    for number, line in enumerate(_Lines(path, encoding), 1):
        if not line.strip():
            continue
        match = expression.fullmatch(line.rstrip("\r\n"))
        if match is None:
            raise DataError(f"{path}: line {number} does not match the pattern", hint=f"line: {line.strip()[:60]!r}")
        yield number, match.groupdict()


def cell(row: Row, column: Column, path: Path, number: int) -> Any:
    """Return one cell.

    Raises:
        DataError: no such column.
    """
    if column not in row:
        names = [str(name) for name in row if isinstance(name, str)]
        if names:
            hint = closest(str(column), names)
        else:
            hint = f"columns are 0 to {len(row) - 1}" + ("; names need 'header: true'" if isinstance(column, str) else "")
        raise DataError(f"{path}: line {number}: there is no column {column!r}", hint=hint)
    return row[column]


class _Lines:
    """Lines of a text file; bytes that are no text become a DataError that names the line."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._path = path
        self._encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding

    def __iter__(self) -> Iterator[str]:
        number = 0
        try:
            with self._path.open(encoding=self._encoding, newline="") as stream:
                for line in stream:
                    number += 1
                    yield line
        except UnicodeDecodeError as problem:
            raise DataError(f"{self._path}: after line {number}: bytes that are not {self._encoding}", hint="set 'encoding'") from problem
        except (LookupError, OSError) as problem:
            raise DataError(f"{self._path}: can't be read ({problem})", hint="check 'path' and 'encoding'") from problem
