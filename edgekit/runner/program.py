"""What every program promises: the loop around a model's graphs, in NumPy, the same wherever the graphs run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

from .contract import Arrays, RunnerError, Tensor


class Component(Protocol):
    """A graph that a program may run: a model in a runtime, or whatever else takes and gives named arrays."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def run(self, inputs: Arrays) -> Arrays:
        """Run the graph once."""


class Program(ABC):
    """Runs the graphs of one model in turn.

    Args:
        components: the graphs, by the names that the program knows them by.
        settings: what the model's makers decided (the token that ends a text, say), as plain data.

    Attributes:
        inputs: what the model as a whole takes.
        outputs: what it gives.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __init__(self, components: Mapping[str, Component], settings: Mapping[str, Any]) -> None:
        self.components = components
        self.settings = settings

    @abstractmethod
    def run(self, inputs: Arrays) -> Arrays:
        """Run the model once, for judging it."""

    def timed(self, inputs: Arrays) -> Any:
        """Do what a latency is to be of; by default, run once."""
        return self.run(inputs)

    def generate(self, inputs: Arrays, options: Mapping[str, Any]) -> Arrays:
        """Write new tokens behind a prompt.

        Returns:
            ``tokens``, the new ones alone, int64 [1, N], and ``nanoseconds`` from the start until each of them was there, int64 [N].

        Raises:
            RunnerError: ``model``: this is no model that generates; ``input`` for options that can't be had.
        """
        raise RunnerError("model", "this model does not generate tokens")


def fixed(spec: Tensor, axis: int) -> int | None:
    """Size of an axis, None where it varies."""
    size = spec.shape[axis]
    return size if isinstance(size, int) else None


def named(specs: tuple[Tensor, ...], name: str) -> Tensor:
    """Find an input or output.

    Raises:
        RunnerError: ``model``: there is none of that name.
    """
    for spec in specs:
        if spec.name == name:
            return spec
    raise RunnerError("model", f"a component lacks {name!r}; it has: {', '.join(spec.name for spec in specs)}")
