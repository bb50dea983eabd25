"""Finds plugins by file name: a file in a slot's folder is a plugin, and its name is the name that recipes use."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import edgekit
from edgekit.core.errors import RecipeError, closest
from edgekit.core.parts import Parts
from edgekit.core.plugin import Exporter, Host, Pass, Plugin, Quantizer, Reader, Source, Task, Writer
from edgekit.core.schema import parse
from edgekit.core.transport import Transport

SLOTS: dict[type[Plugin], str] = {
    Source: "sources",
    Reader: "data",
    Task: "tasks",
    Pass: "passes",
    Parts: "parts",
    Exporter: "exporters",
    Quantizer: "quantizers",
    Host: "hosts",
    Writer: "reports",
    Transport: "transports",
}

P = TypeVar("P", bound=Plugin)


def names(contract: type[P]) -> list[str]:
    """Names of all plugins of a slot; a file whose name starts with an underscore is not a plugin."""
    folder = Path(edgekit.__file__).parent / SLOTS[contract]
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


def load(contract: type[P], name: str) -> type[P]:
    """Return a plugin's class.

    Raises:
        RecipeError: unknown name; the nearest known one is named.
    """
    slot = SLOTS[contract]
    if name not in names(contract):
        raise RecipeError(f"{slot}: unknown plugin {name!r}", hint=closest(name, names(contract)))
    module = importlib.import_module(f"edgekit.{slot}.{name}")
    own = [c for c in vars(module).values() if _is_plugin(c, contract, module.__name__)]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} must define exactly one {contract.__name__}, it defines {len(own)}")
    found: type[P] = own[0]
    return found


def create(contract: type[P], wish: str | Mapping[str, Any], where: str) -> P:
    """Make a plugin from what a recipe says: a name, or ``{use: name, option: value}``.

    Args:
        contract: the slot's contract.
        wish: the recipe's words.
        where: key of the recipe, for messages.

    Raises:
        RecipeError: no name, an unknown plugin or a wrong option.
    """
    options = {"use": wish} if isinstance(wish, str) else dict(wish)
    name = options.pop("use", None)
    if not isinstance(name, str):
        raise RecipeError(f"{where}: says not which plugin", hint=f"add 'use: NAME'; {closest('', names(contract))}")
    return parse(load(contract, name), options, f"{where} ({name})")


def quantizers_for(format: str, precision: str) -> list[str]:  # noqa: A002 - the field's word
    """Names of the quantizers that take a format to a precision."""
    return [n for n in names(Quantizer) if (q := load(Quantizer, n)).accepts == format and q.precision == precision]


def precisions_of(format: str) -> list[str]:  # noqa: A002 - the field's word
    """Precisions to which a format's quantizers can take a model."""
    return sorted(q.precision for q in (load(Quantizer, name) for name in names(Quantizer)) if q.accepts == format)


def name_of(plugin: Plugin | type[Plugin]) -> str:
    """Name of a plugin, the one that recipes use."""
    kind = plugin if isinstance(plugin, type) else type(plugin)
    return kind.__module__.rpartition(".")[2]


def qualified(plugin: Plugin | type[Plugin]) -> str:
    """Slot and name of a plugin, such as ``exporters.onnx``."""
    kind = plugin if isinstance(plugin, type) else type(plugin)
    return kind.__module__.removeprefix("edgekit.")


def _is_plugin(candidate: Any, contract: type[Plugin], module: str) -> bool:
    return (
        isinstance(candidate, type)
        and issubclass(candidate, contract)
        and not inspect.isabstract(candidate)
        and candidate.__module__ == module
    )
