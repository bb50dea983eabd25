"""Environments of their own for packages that can't share edgekit's: made once by pip, kept in the store."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgekit.core import digest
from edgekit.core.errors import MissingPackageError
from edgekit.core.store import default_root, write_problem

_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


def interpreter(packages: Sequence[str]) -> Path:
    """Return the Python of the environment that has these packages, making the environment if it is not there.

    Args:
        packages: what pip installs there; pin the versions.

    Raises:
        MissingPackageError: names the packages that can't be installed and what pip said.
        OutputError: the store can't be written.
    """
    home = default_root() / "venvs"
    key = digest.of_json([sorted(packages), sys.version, sys.base_prefix, platform.machine()])[:20]
    final = home / key
    if not final.is_dir():
        try:
            home.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(home)
            with _alone(home / f"{key}.lock"):
                if not final.is_dir():
                    _make(home, final, packages)
        except OSError as problem:
            raise write_problem(home, problem) from problem
    return final / "bin" / "python"


def environment() -> dict[str, str]:
    """This process's environment without what would let other packages into a virtual one."""
    return {key: value for key, value in os.environ.items() if key not in _INHERITED} | {"PYTHONNOUSERSITE": "1"}


def _make(home: Path, final: Path, packages: Sequence[str]) -> None:
    """Build beside the final place and rename: Python finds an environment by where its ``pyvenv.cfg`` lies, so it may move."""
    work = Path(tempfile.mkdtemp(prefix=f".tmp-{os.getpid()}-", dir=home))
    try:
        try:
            venv.create(work, with_pip=True, symlinks=True)
        except subprocess.CalledProcessError as problem:
            reason = "a virtual environment can't be made here (ensurepip failed)"
            raise MissingPackageError(reason, hint="install Python's venv module, such as Debian's python3-venv") from problem
        command = [str(work / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        done = subprocess.run([*command, *packages], env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            wanted = " ".join(packages)
            hint = f"make sure that pip can reach {wanted} for Python {platform.python_version()}"
            raise MissingPackageError(f"pip can't install {wanted} ({_reason(done.stderr)})", hint=hint)
        work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove_leftovers(home: Path) -> None:
    """Remove half-made environments of processes that are gone."""
    for path in home.glob(".tmp-*"):
        try:
            os.kill(int(path.name.split("-")[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except PermissionError:
            continue  # another user's process is making it


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two processes don't make the same environment at once."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _reason(said: str) -> str:
    lines = [line.removeprefix("ERROR: ").strip() for line in said.splitlines() if line.startswith("ERROR")]
    return (lines[-1] if lines else said.strip().rpartition("\n")[2] or "no reason given")[:300]
