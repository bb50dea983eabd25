"""Finds the stack of equal layers that a transformer is made of, whatever its family calls it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import RecipeError, closest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Stack:
    """Layers that run one after the other.

    Attributes:
        name: of their list in the model: ``bert.encoder.layer``, ``model.layers``.
        layers: the layers, first to last.
    """

    name: str
    layers: tuple[torch.nn.Module, ...]

    def layer(self, index: int) -> str:
        """Name of a layer in the model."""
        return f"{self.name}.{index}"


def find_stack(module: torch.nn.Module, name: str | None = None) -> Stack:
    """Find the stack of layers: the named list, or the only one that can be meant.

    A list can be meant when its members are of one kind and it does not lie within another such list; where the configuration of a
    Transformers model says how many layers there are, only lists of that length can.

    Raises:
        RecipeError: no such list, none at all, or several.
    """
    import torch

    lists = {key: inner for key, inner in module.named_modules() if isinstance(inner, (torch.nn.ModuleList, torch.nn.Sequential)) and key}
    if name is not None:
        if name not in lists:
            raise RecipeError(f"the model has no list of layers {name!r}", hint=closest(name, lists))
        return Stack(name, tuple(lists[name]))
    found = [key for key, inner in lists.items() if isinstance(inner, torch.nn.ModuleList) and _alike(inner)]
    found = [key for key in found if not any(key.startswith(f"{other}.") for other in found)]
    count = layer_count(module)
    if count is not None:
        found = [key for key in found if len(lists[key]) == count]
    if not found:
        raise RecipeError(f"{type(module).__name__} has no list of layers of one kind", hint="name the list that is meant: stack: NAME")
    if len(found) > 1:
        raise RecipeError(f"{type(module).__name__} has several lists of layers: {', '.join(found)}", hint=f"say which: stack: {found[0]}")
    return Stack(found[0], tuple(lists[found[0]]))


def configuration(module: torch.nn.Module) -> Any | None:
    """Configuration of a Transformers model; None for any other module."""
    transformers = sys.modules.get("transformers")  # whoever made such a model has imported it; nobody else need wait for it
    return module.config if transformers and isinstance(module, transformers.PreTrainedModel) else None


def layer_count(module: torch.nn.Module) -> int | None:
    """Number of layers that a Transformers model's configuration states."""
    count = getattr(configuration(module), "num_hidden_layers", None)
    return count if isinstance(count, int) else None


def spread(count: int, total: int) -> tuple[int, ...]:
    """So many of all layers, spread evenly from the first to the last."""
    return tuple(round(i * (total - 1) / (count - 1)) for i in range(count)) if count > 1 else (0,)


def _alike(layers: torch.nn.ModuleList) -> bool:
    return len({type(layer) for layer in layers}) == 1
