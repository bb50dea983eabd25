"""The content-addressed store: a result is kept under the digest of everything that could change it.

A stage writes into a temporary sibling; only a finished, flushed result is renamed into place. So a killed run leaves nothing
half-written, and two processes that finish the same key both succeed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import edgekit
from edgekit.core import digest
from edgekit.core.errors import OutputError
from edgekit.core.workplace import abandoned, claimed, flush_tree, move, put, workplace

RECORD = "stage.json"
_TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class StageKey:
    """Everything that decides a stage's result.

    Attributes:
        stage: the kind of work, for people (``export``, ``quantize``).
        plugin: slot and name, such as ``exporters.onnx``.
        options: the plugin's options and other plain data.
        inputs: digests of what is read, by role.
        packages: distributions whose versions matter.
    """

    stage: str
    plugin: str
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """The key as plain data, with the versions and the code digest filled in."""
        return {
            "stage": self.stage,
            "plugin": self.plugin,
            "options": dict(self.options),
            "inputs": dict(self.inputs),
            "packages": {name: package_version(name) for name in sorted(self.packages)},
            "code": code_digest(self.plugin),
        }


@dataclass(frozen=True)
class StageResult:
    """Where a stage's result lies and whether it had to be made."""

    path: Path
    key: str
    cached: bool


class Store:
    """Keeps stage results in a folder, under their digests."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        self._objects = self.root / "objects"
        self._unfinished = self.root / "unfinished"
        try:
            self._objects.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
        except OSError as problem:
            raise write_problem(self._objects, problem) from problem

    def stage(self, key: StageKey, make: Callable[[Path], None]) -> StageResult:
        """Return the result for a key, making it only if it is not there.

        Args:
            key: what decides the result.
            make: writes the result below the empty folder it is given.

        Raises:
            OutputError: the disk is full or the store can't be written.
        """
        content = key.content()
        name = digest.of_json(content)
        final = self._objects / name[:2] / name
        if _whole(final):
            return StageResult(final, name, cached=True)
        try:
            final.parent.mkdir(exist_ok=True)
            with workplace(self._objects, _TEMPORARY) as work:
                _perform(make, work)
                _finish(work, content)
                if not (move(work, final) or _whole(final)):
                    put(work, final)
        except OSError as problem:
            ours = problem.filename is None or self.root in Path(str(problem.filename)).parents
            if problem.errno in _DISK and ours:
                raise write_problem(self.root, problem) from problem
            raise
        return StageResult(final, name, cached=False)

    @contextmanager
    def scratch(self, key: StageKey) -> Iterator[Path]:
        """Give a stage a folder that outlives a kill, for checkpoints of long work; it goes when the stage has succeeded.

        Of two processes that make the same result at once, the second gets a folder of its own and shares nothing.

        Raises:
            OutputError: the folder can't be made.
        """
        name = digest.of_json(key.content())
        try:
            self._unfinished.mkdir(exist_ok=True)
            with claimed(self._unfinished / name) as folder:
                if folder is None:
                    with workplace(self._objects, _TEMPORARY) as own:
                        yield own
                else:
                    yield folder
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError as problem:
            if problem.errno in _DISK:
                raise write_problem(self._unfinished, problem) from problem
            raise

    def _remove_leftovers(self) -> None:
        for path in abandoned(self._objects, _TEMPORARY):
            shutil.rmtree(path, ignore_errors=True)


def default_root() -> Path:
    """Folder of the store: ``EDGEKIT_CACHE``, or ``edgekit`` below the user's cache folder."""
    chosen = os.environ.get("EDGEKIT_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"


def package_version(name: str) -> str:
    """Version of an installed distribution, or ``absent``."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


@cache
def code_digest(plugin: str) -> str:
    """Digest of the code behind a plugin: its own file or room, what its room shares (files with an underscore), and all below."""
    home = Path(edgekit.__file__).parent
    own = home.joinpath(*plugin.split("."))
    below = [digest.of_tree(home / room, pattern="*.py") for room in ("core", "algorithms", "runner")]
    shared = [digest.of_file(path) for path in sorted(own.parent.glob("_*.py")) if own.parent != home]
    mine = [digest.of_tree(path, pattern="*.py") for path in (own, own.with_suffix(".py")) if path.exists()]
    return digest.of_json([below, shared, mine])


def write_problem(path: Path, problem: OSError) -> OutputError:
    """Turn a failed write into the error that users see."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{path}: no space left on the disk", hint="free some space, or set EDGEKIT_CACHE and -o to another disk")
    return OutputError(f"{path}: can't be written ({problem.strerror or problem})", hint="choose a folder that you may write to")


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_HARDLY_ANY = 1 << 20


def _perform(make: Callable[[Path], None], work: Path) -> None:
    try:
        make(work)
    except OSError:
        raise
    except Exception as problem:
        if _is_full(work):  # libraries that write files themselves tell it each in its own way
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from problem
        raise


def _is_full(folder: Path) -> bool:
    """Whether a disk has less room than any stage needs."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < _HARDLY_ANY


def _whole(path: Path) -> bool:
    """Whether a stored result is complete: every recorded file is there with its recorded size."""
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        return all((path / name).stat().st_size == size for name, size in record["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def _finish(work: Path, content: dict[str, Any]) -> None:
    files = {p.relative_to(work).as_posix(): p.stat().st_size for p in sorted(work.rglob("*")) if p.is_file()}
    record = work / RECORD
    record.write_text(json.dumps({"key": content, "files": files}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    flush_tree(work)
