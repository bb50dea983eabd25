"""Writes a run folder: whole or not at all, and never over something that is not a run folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import OutputError
from edgekit.core.plugin import Writer
from edgekit.core.registry import load, names
from edgekit.core.store import write_problem
from edgekit.core.workplace import abandoned, flush_tree, put, restore, workplace

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.recipe import Recipe
    from edgekit.core.report import Report

MARK = "report.json"


def free_folder(out: Path) -> None:
    """Check, before any work, that a run folder may be written, and tidy up after runs that were killed.

    Raises:
        OutputError: the place is a file, holds something else than an earlier run, or can't be replaced or written.
    """
    place = _resolved(out)
    try:
        if os.path.lexists(place) and not place.is_dir():
            raise OutputError(f"{out}: is a file", hint="choose another folder with -o")
        if place.is_mount():
            raise OutputError(
                f"{out}: is a mounted disk, which a finished run can't replace", hint=f"name a folder on it: -o {out / 'run'}"
            )
        if place in (Path.cwd(), *Path.cwd().parents):
            raise OutputError(f"{out}: is the folder you are in, which a finished run can't replace", hint="choose another folder with -o")
        if place.parent.is_dir():
            restore(place)
            for leftover in abandoned(place.parent, _new(place)):
                shutil.rmtree(leftover, ignore_errors=True)
        if place.is_dir():
            _refuse_foreign(out, place)
        nearest = next(folder for folder in place.parents if folder.exists())
        with workplace(nearest, _new(place)):
            pass
    except OSError as problem:
        raise write_problem(out, problem) from problem


def _refuse_foreign(out: Path, place: Path) -> None:
    """Let nothing be replaced that a run did not write.

    Raises:
        OutputError: the folder is not empty and holds no earlier run, or something beside one.
    """
    content = {path.name for path in place.iterdir()}
    try:
        written = json.loads((place / MARK).read_text(encoding="utf-8")) if MARK in content else {}
        made = {entry["target"] for entry in written["targets"]} if content else set()
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{out}: is not empty and holds no earlier run", hint="choose another folder with -o") from None
    foreign = content - made - {"recipe.yaml", *(load(Writer, name).filename for name in names(Writer))}
    if foreign:
        raise OutputError(
            f"{out}: holds {min(foreign)!r}, which no run wrote and which would be lost", hint="move it, or choose another folder with -o"
        )


def deliver(report: Report, recipe: Recipe, artifacts: Mapping[str, Artifact], out: Path) -> None:
    """Write report, resolved recipe and the chosen models below ``out``, replacing an earlier run in one step.

    Raises:
        OutputError: the disk is full or the folder can't be written; an earlier run stays as it was.
    """
    place = _resolved(out)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with workplace(place.parent, _new(place)) as work:
            for target in report.targets:
                if target.chosen is not None and target.chosen in artifacts:
                    _copy(artifacts[target.chosen], work / target.target)
            for name in names(Writer):
                writer = load(Writer, name)()
                (work / writer.filename).write_text(writer.render(report), encoding="utf-8")
            (work / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
            flush_tree(work)
            put(work, place)
    except OSError as problem:
        raise write_problem(out, problem) from problem


def _copy(artifact: Artifact, folder: Path) -> None:
    for path in [*artifact.files, artifact.path / "plan.json", artifact.path / "search.json"]:
        if path.is_file():
            destination = folder / path.relative_to(artifact.path)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)


def _resolved(out: Path) -> Path:
    """The real place, so that a link to a folder stays and the folder is replaced."""
    return Path(os.path.realpath(out))


def _new(place: Path) -> str:
    return f".{place.name}.new-"
