"""Writes a run folder: whole or not at all, and never over something that is not a run folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import OutputError
from edgekit.core.plugin import Writer
from edgekit.core.registry import load, names
from edgekit.core.store import flush, write_problem

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.recipe import Recipe
    from edgekit.core.report import Report

MARK = "report.json"


def free_folder(out: Path) -> None:
    """Check, before any work, that a run folder may be written.

    Raises:
        OutputError: the place is a file, holds something else than an earlier run, or can't be written.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file", hint="choose another folder with -o")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise OutputError(f"{out}: is not empty and holds no earlier run", hint="choose another folder with -o")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = _beside(out, "probe")
        probe.mkdir()
        probe.rmdir()
    except OSError as problem:
        raise write_problem(out, problem) from problem


def deliver(report: Report, recipe: Recipe, artifacts: Mapping[str, Artifact], out: Path) -> None:
    """Write report, resolved recipe and the chosen models below ``out``, replacing an earlier run in one step.

    Raises:
        OutputError: the disk is full or the folder can't be written; an earlier run stays as it was.
    """
    work = _beside(out, "new")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        for target in report.targets:
            if target.chosen is not None and target.chosen in artifacts:
                _copy(artifacts[target.chosen], work / target.target)
        for name in names(Writer):
            writer = load(Writer, name)()
            (work / writer.filename).write_text(writer.render(report), encoding="utf-8")
        (work / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        for path in work.rglob("*"):
            flush(path)
        _swap(work, out)
    except OSError as problem:
        raise write_problem(out, problem) from problem
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copy(artifact: Artifact, folder: Path) -> None:
    for path in [*artifact.files, artifact.path / "plan.json"]:
        if path.is_file():
            destination = folder / path.relative_to(artifact.path)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)


def _swap(work: Path, out: Path) -> None:
    old = _beside(out, "old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    work.rename(out)
    flush(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _beside(out: Path, word: str) -> Path:
    return out.parent / f".{out.name}.{word}-{os.getpid()}"
