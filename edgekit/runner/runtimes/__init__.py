"""Runtimes, one a file; the file's name is the name that recipes and targets use."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABCMeta
from pathlib import Path

from ..contract import RunnerError, Runtime  # noqa: TID252 - the runner is also loaded under another name


def runtime_names() -> list[str]:
    """Names of all runtimes, installed or not."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def runtime_class(name: str) -> type[Runtime]:
    """Return a runtime's class without importing its library.

    Raises:
        RunnerError: ``input``: no runtime has that name.
    """
    if name not in runtime_names():
        raise RunnerError("input", f"unknown runtime {name!r}", f"known: {', '.join(runtime_names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    own = [c for c in vars(module).values() if isinstance(c, ABCMeta) and issubclass(c, Runtime) and c.__module__ == module.__name__]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} must define exactly one runtime, it defines {len(own)}")
    return own[0]


def admit(path: Path, runtime: str, threads: int, precision: str) -> type[Runtime]:
    """Check what is asked for, before the runtime's library costs time and memory.

    Raises:
        RunnerError: ``model`` for a file that is not there, ``input`` for the rest.
    """
    kind = runtime_class(runtime)
    if threads < 1:
        raise RunnerError("input", f"{threads} threads can't run anything", "use 1 or more")
    if precision not in kind.PRECISIONS:
        reason = f"{kind.PACKAGES[0]} can't be told to execute in {precision!r}"
        raise RunnerError("input", reason, f"it executes in: {', '.join(kind.PRECISIONS)}")
    if not path.is_file():
        raise RunnerError("model", f"{path}: no such file", "give the path of the model's main file")
    return kind


def load(path: Path, runtime: str, *, threads: int = 1, precision: str = "f32") -> Runtime:
    """Load a model file in a runtime.

    Args:
        path: the model's main file; companions lie beside it.
        runtime: one of :func:`runtime_names`.
        threads: threads for one inference.
        precision: ``f32``, ``unsaturated``, or ``bf16`` where the runtime and the CPU offer it.

    Raises:
        RunnerError: ``missing``, ``model`` or ``input``.
    """
    return opened(admit(path, runtime, threads, precision), path, threads, precision)


def opened(kind: type[Runtime], path: Path, threads: int, precision: str) -> Runtime:
    """Load a model file, or the graphs that an assembly names, in a runtime that was admitted.

    Raises:
        RunnerError: as :func:`load`.
    """
    from ..assembly import SUFFIX, Assembly  # noqa: TID252 - it knows the runtimes' contract, and they need not know it

    return Assembly.of(kind, path, threads, precision) if path.suffix == SUFFIX else kind.load(path, threads, precision)
