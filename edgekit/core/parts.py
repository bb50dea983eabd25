"""Slot ``parts``: how a model is divided into graphs that run in turn."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.core.artifacts import Batch
from edgekit.core.plugin import Plugin

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


@dataclass(frozen=True)
class Component:
    """One graph of a model, before export.

    Attributes:
        module: takes its inputs by name and returns its outputs by name.
        example: inputs to trace it with, one sample; formats with fixed shapes get these lengths.
        dynamic: axes other than the batch that vary where a format lets them, by input: axis -> symbol.
    """

    module: torch.nn.Module
    example: Batch
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


class Parts(Plugin):
    """Slot ``parts``: divides a model into graphs, which a program of the runner runs in turn.

    Attributes:
        program: the program's name (:mod:`edgekit.runner.programs`).
        writes: whether the model writes tokens one after the other.
    """

    program: ClassVar[str]
    writes: ClassVar[bool] = False

    @abstractmethod
    def divide(self, module: torch.nn.Module, context: Context) -> dict[str, Component]:
        """Return the graphs by the names that the program knows them by; ``context.example`` is a real sample.

        Raises:
            ExportError: the model is not of the kind that this plugin divides.
        """

    @abstractmethod
    def settings(self, module: torch.nn.Module) -> dict[str, Any]:
        """Return what the program must know of the model, as plain data."""

    @abstractmethod
    def reference(self, module: torch.nn.Module, inputs: Batch) -> Batch:
        """Return what the undivided model gives for one sample, in its own library's way, by the program's names and shapes."""

    def prompt(self, inputs: Batch) -> Batch:
        """Return what a model that writes is given of a sample when its speed is measured; by default all of it."""
        return inputs


def component_module(inner: torch.nn.Module, names: Sequence[str], compute: Callable[..., dict[str, torch.Tensor]]) -> torch.nn.Module:
    """Make a module of a function of named tensors.

    Args:
        inner: holds the weights; the new module has its layers under the same names.
        names: of the inputs, in the order in which the graph is to take them.
        compute: takes the inputs by name and returns the outputs by name; calls ``inner.forward``.
    """
    import torch

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in names])

    def forward(*given: torch.Tensor, **by_name: torch.Tensor) -> dict[str, torch.Tensor]:
        return compute(**signature.bind(*given, **by_name).arguments)

    class Part(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._modules, self._parameters, self._buffers = inner._modules, inner._parameters, inner._buffers
            forward.__signature__ = signature  # type: ignore[attr-defined]  # what exporters read the inputs' names from
            self.forward = forward

    return Part().eval()
