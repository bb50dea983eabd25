"""Programs, one a file: how the graphs of a model run in turn; the file's name is the name that an assembly uses."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABCMeta

from ..contract import RunnerError  # noqa: TID252 - the runner is also loaded under another name
from ..program import Program  # noqa: TID252


def program_names() -> list[str]:
    """Names of all programs."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def program_class(name: str) -> type[Program]:
    """Return a program's class.

    Raises:
        RunnerError: ``model``: no program has that name.
    """
    if name not in program_names():
        raise RunnerError("model", f"unknown program {name!r}", f"known: {', '.join(program_names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    own = [c for c in vars(module).values() if isinstance(c, ABCMeta) and issubclass(c, Program) and c.__module__ == module.__name__]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} must define exactly one program, it defines {len(own)}")
    return own[0]
