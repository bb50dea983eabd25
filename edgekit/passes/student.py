"""A student of any architecture: a network that the user gives takes the model's place, to be taught by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core import digest
from edgekit.core.errors import RecipeError, SourceError
from edgekit.core.factories import reference_digest
from edgekit.core.modules import outputs_of
from edgekit.core.plugin import Improvement, Pass
from edgekit.core.weights import load_into, make_module

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Batch
    from edgekit.core.plugin import Context


class Student(Pass):
    """Put another network in the model's place; train it afterwards, with distil for instance."""

    requires = {"safetensors": "safetensors"}

    arch: str = Field(description="file.py:factory or package.module:factory; makes the student.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for the factory.")
    weights: Path | None = Field(None, description="State dict to start from; what the factory makes of the seed where there is none.")

    def fingerprint(self) -> dict[str, str]:
        """Digests of the architecture's file and of the weights."""
        found = {"arch": reference_digest(self.arch)}
        if self.weights is None:
            return found
        if not self.weights.is_file():
            raise SourceError(f"{self.weights}: no such file", hint="give the path of a state dict")
        return {**found, "weights": digest.of_file(self.weights)}

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Say which network, and how large it is beside the model."""
        student = make_module(self.arch, self.arguments)
        return {
            "arch": self.arch,
            "code": reference_digest(self.arch),
            "arguments": self.arguments,
            "weights": str(self.weights) if self.weights else None,
            "parameters": _size(student),
            "instead_of": _size(module),
        }

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Make the student and give it its weights.

        Raises:
            RecipeError: it gives other outputs than the model.
            SourceError: the factory raises, or the weights can't be read or don't fit.
            ExportError: it does not take the model's inputs.
        """
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            student = self.rebuild(module, plan)
        notes = load_into(student, Path(plan["weights"])) if plan["weights"] else []
        wanted, found = (_outputs(network, context.example) for network in (module, student))
        if wanted != found:
            raise RecipeError(
                f"student: {plan['arch']} gives {_told(found)}, the model gives {_told(wanted)}", hint="let their outputs agree"
            )
        size = f"{plan['parameters']:,} parameters instead of {plan['instead_of']:,}"
        return Improvement(student, notes=(f"{plan['arch'].rpartition(':')[2]} takes the model's place: {size}", *notes))

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Make the student anew from its factory."""
        return make_module(plan["arch"], plan["arguments"])


def _size(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def _outputs(module: torch.nn.Module, example: Batch) -> dict[str, tuple[int, ...]]:
    (_, outputs) = outputs_of(module, [example])[0]
    return {name: value.shape for name, value in outputs.items()}


def _told(outputs: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in outputs.items())
