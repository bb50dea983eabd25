"""Finds the Python function a user named as ``file.py:function`` or ``package.module:function``.

This is the only place where edgekit runs code from outside, and only because the user named it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.core import digest
from edgekit.core.errors import InputError, SourceError, closest

RAISED = (Exception, SystemExit)
"""What code of the user's may raise; a script's ``sys.exit()`` must not end a build with success."""


def described(problem: BaseException) -> str:
    """What code of the user's raised, in one line: ``KeyError: 'mood'``."""
    said = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {said[0][:200]}" if said else type(problem).__name__


def split_reference(reference: str, error: type[InputError] = SourceError) -> tuple[str, str]:
    """Split ``where:function``.

    Raises:
        InputError: of the given type, when there is no function name.
    """
    where, colon, name = reference.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise error(f"{reference!r} names no function", hint="write file.py:function or package.module:function")
    return where, name


def anchor(reference: str, base: Path) -> str:
    """Make the file of a ``file.py:function`` reference absolute; leave a module reference as it is."""
    where, name = split_reference(reference)
    return f"{(base / Path(where).expanduser()).resolve()}:{name}" if where.endswith(".py") else reference


def find_function(reference: str, error: type[InputError] = SourceError) -> Callable[..., Any]:
    """Import the module that a reference names and return the function.

    Raises:
        InputError: of the given type: no such file or module, the file raises when it is imported, or has no such function.
    """
    where, name = split_reference(reference, error)
    module = _from_file(Path(where), error) if where.endswith(".py") else _from_package(where, error)
    found = getattr(module, name, None)
    if found is None:
        own = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise error(f"{where} has no function {name!r}", hint=closest(name, own) if own else "it defines none")
    if not callable(found):
        raise error(f"{reference} is {type(found).__name__}, not a function", hint="name a function or class")
    return found  # type: ignore[no-any-return]


def reference_digest(reference: str, error: type[InputError] = SourceError) -> str:
    """Return the SHA-256 of the file behind a reference and of those beside it that it imports.

    Raises:
        InputError: of the given type: no such file or module.
    """
    files = reference_files(reference, error)
    return digest.of_json({os.path.relpath(file, files[0].parent): digest.of_file(file) for file in files})


def reference_files(reference: str, error: type[InputError] = SourceError) -> list[Path]:
    """Return the file behind a reference, and behind it those that it imports from its own folder or package.

    Raises:
        InputError: of the given type: no such file or module.
    """
    where, _ = split_reference(reference, error)
    if where.endswith(".py"):
        path: Path | None = Path(where)
    else:
        try:
            spec = importlib.util.find_spec(where)
        except (ImportError, ValueError):
            spec = None
        path = Path(spec.origin) if spec and spec.origin else None
    if path is None or not path.is_file():
        raise error(f"{where}: no such Python file or module", hint="check the path before the colon")
    path = path.resolve()
    if where.endswith(".py"):
        root, package = path.parent, ""
    else:
        root, package = path.parents[where.count(".") + (path.name == "__init__.py")], where.partition(".")[0]
    return [path, *sorted(_with_imports(path, root, package) - {path})]


def _with_imports(first: Path, root: Path, package: str) -> set[Path]:
    """A file and what it imports, directly or not, from a folder; of a package, where one is given, alone."""
    found: set[Path] = set()
    left = [first]
    while left:
        file = left.pop()
        if file in found:
            continue
        found.add(file)
        for name in _imports(file, root):
            place = root.joinpath(*name.split("."))
            if not package or name.partition(".")[0] == package:
                left += [module for module in (place.with_suffix(".py"), place / "__init__.py") if module.is_file()]
    return found


def _imports(file: Path, root: Path) -> set[str]:
    """Names of all modules that a file may import, seen from a folder: ``a``, ``a.b`` and ``a.b.c`` for ``from a.b import c``."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    here = file.parent.relative_to(root).parts
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else ()
            base = [*above, *([node.module] if node.module else [])]
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            found |= {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return found


def _from_file(path: Path, error: type[InputError]) -> Any:
    spec = importlib.util.spec_from_file_location(f"edgekit_user_{path.stem}", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise error(f"{path}: no such Python file", hint="check the path before the colon")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _siblings_importable(path.parent):
        try:
            spec.loader.exec_module(module)
        except RAISED as problem:
            raise error(f"{path} raised {described(problem)}", hint="mend the file; it must import by itself") from problem
    return module


def _from_package(name: str, error: type[InputError]) -> Any:
    try:
        return importlib.import_module(name)
    except RAISED as problem:
        raise error(f"module {name} does not import ({problem})", hint="install its package or name a file.py") from problem


@contextmanager
def _siblings_importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
