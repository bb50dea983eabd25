"""Starts the runner from its own folder: ``PYTHON edgekit/runner``, in an interpreter that need not know edgekit."""

from __future__ import annotations

import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - before anything else is imported
PACKAGE = "edgekit_runner"


def _load_package() -> None:
    """Make this folder a package without leaving it on ``sys.path``, where its files would stand in for real libraries."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != HERE]  # noqa: PTH100
    spec = importlib.util.spec_from_file_location(PACKAGE, os.path.join(HERE, "__init__.py"), submodule_search_locations=[HERE])  # noqa: PTH118
    if spec is None or spec.loader is None:
        raise ImportError(f"{HERE} can't be loaded as a package")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    _load_package()
    status = importlib.import_module(f"{PACKAGE}.serve").main()
    sys.stderr.flush()
    os._exit(status)  # a runtime's own farewell takes up to half a second, crashes at times, and serves nobody
