"""How commands print: tables and words on stdout, or one JSON document and nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe, where nobody says how wide the paper is."""


@contextmanager
def while_somebody_reads() -> Iterator[None]:
    """Print to a reader that may leave; that changes no verdict, and so no exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):  # rich ends a program whose reader has left
            raise


def console() -> Console:
    """Return the console for stdout; brackets in names are text, never markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(markup=False, highlight=False, emoji=False, width=width)


def print_json(content: BaseModel | Sequence[BaseModel]) -> None:
    """Print a model, or a list of models, as JSON."""
    if isinstance(content, Sequence):
        text = json.dumps([item.model_dump(mode="json", by_alias=True) for item in content], indent=1)
    else:
        text = content.model_dump_json(by_alias=True, indent=1)
    sys.stdout.write(text + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", right: Sequence[str] = ()) -> Table:
    """Lay out rows under headings.

    Args:
        columns: headings.
        rows: one value a column; None is an empty cell.
        title: printed above.
        right: headings of the columns that are aligned to the right.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", title=title or None, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*("" if value is None else plain(str(value)) for value in row))
    return made


def plain(text: str) -> str:
    """Show what can't be printed as ``?``, so that a name inside a model file can't steer the terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def short(text: str, width: int) -> str:
    """Cut a long name in the middle, where it says least."""
    return text if len(text) <= width else f"{text[: width // 3]}...{text[-(width - width // 3 - 3) :]}"


def size(count: int | None) -> str:
    """Bytes for people, in powers of 1000."""
    return scaled(count, ("B", "kB", "MB", "GB", "TB"))


def amount(count: int | None) -> str:
    """A number for people: ``1.23 M``."""
    return scaled(count, ("", "k", "M", "G", "T"))


def scaled(count: int | None, units: Sequence[str]) -> str:
    """Write a count with the largest unit that leaves a number of at least 1; None is empty."""
    if count is None:
        return ""
    value, step = float(count), 0
    while abs(value) >= 999.5 and step + 1 < len(units):
        value, step = value / 1000, step + 1
    return f"{value:.3g} {units[step]}".strip()
