"""Where bundled data lies: beside the package in a source tree or editable install, inside it in a wheel."""

from __future__ import annotations

import os
from pathlib import Path

import edgekit


def bundled(folder: str) -> Path:
    """Return the path of ``targets`` or ``calibration``, wherever edgekit is installed."""
    home = Path(edgekit.__file__).parent
    inside = home / "_bundled" / folder
    return inside if inside.is_dir() else home.parent / folder


def data_root() -> Path:
    """Folder of the local data packs: ``EDGEKIT_DATA``, default ``../shared/data`` beside the project."""
    chosen = os.environ.get("EDGEKIT_DATA")
    return Path(chosen) if chosen else Path(edgekit.__file__).parent.parent.parent / "shared" / "data"


def expand(text: str, base: Path) -> Path:
    """Turn a path from a YAML file into a real one: variables and ``~`` filled in, relative paths taken from the file's folder."""
    path = Path(os.path.expandvars(text.replace("${EDGEKIT_DATA}", str(data_root())))).expanduser()
    return path if path.is_absolute() else (base / path).resolve()
