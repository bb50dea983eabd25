"""Packs agent and runner into the one file that travels to devices; the same code gives the same bytes."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import edgekit.agent
import edgekit.runner

NAME = "agent.pyz"
PACKAGE = "edgekit_device"
"""Not ``edgekit``, so that an application may import it where edgekit is installed too."""
_MAIN = f"""import os
import sys

if sys.version_info < (3, 9):
    sys.exit("the agent needs Python 3.9 or later, this is %d.%d" % sys.version_info[:2])

from {PACKAGE}.agent.__main__ import main

status = main(sys.argv[1:])
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)  # a runtime's own farewell takes time and crashes at times
"""
_INIT = '"""Agent and runner of edgekit, for devices."""\n'


@cache
def agent_file() -> bytes:
    """Return the executable archive: stored, sorted, without times."""
    sources = {f"{PACKAGE}/__init__.py": _INIT.encode(), "__main__.py": _MAIN.encode()}
    for package in (edgekit.agent, edgekit.runner):
        folder = Path(package.__file__ or "").parent
        for path in folder.rglob("*.py"):
            sources[f"{PACKAGE}/{folder.name}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    sink = io.BytesIO()
    sink.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as made:
        for name in sorted(sources):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            made.writestr(entry, sources[name])
    return sink.getvalue()
