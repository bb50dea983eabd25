"""What the passes that prepare weights for an integer grid share: which grid, which layers, and layers seen one after another."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.algorithms.folding import restructured
from edgekit.algorithms.grids import WeightGrid
from edgekit.algorithms.layers import calls, layer_of
from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Pass
from edgekit.core.quantization import excluded
from edgekit.passes._calibration import hooked
from edgekit.passes._deployed import calibration, captured, folded, folds_of, read_folds
from edgekit.passes._engine import predictions

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Batch
    from edgekit.core.plugin import Context
    from edgekit.passes._engine import Tensors

See = Callable[["torch.Tensor", "torch.Tensor"], None]
"""Takes what a layer reads in the model being made, and what it gives in the float model."""


class OnGrid(Pass, ABC):
    """A pass on the convolutions and linear layers whose weights a quantizer will put on a grid."""

    bits: Literal[4, 8] = Field(8, description="Bits of a weight.")
    granularity: Literal["channel", "tensor", "group"] = Field("channel", description="One scale a channel, a tensor, or a group.")
    group: int = Field(32, ge=2, description="Input weights that share a scale; for granularity 'group' only.")
    exclude: tuple[str, ...] = Field((), description="Layer names or glob patterns that stay as they are.")
    samples: int = Field(128, ge=1, description="Calibration samples that show what each layer reads.")

    @property
    def grid(self) -> WeightGrid:
        """The grid that the quantizer will choose."""
        return WeightGrid(self.bits, self.granularity, self.group)

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Find the layers, in the order of the graph.

        Raises:
            RecipeError: the model's graph can't be captured, or a layer's weights don't divide into groups.
            QuantizationError: an exclude pattern matches no layer.
        """
        folds = folds_of(module, context)
        deployed = folded(module, folds)
        known = [call.layer for call in calls(captured(deployed, context), deployed)]
        kept = excluded(known, self.exclude)
        running = ran(deployed, known, context.example)
        layers = [layer for layer in known if layer not in kept and layer in running]
        if not layers:
            raise RecipeError("no convolution or linear layer is left to work on", hint="leave the pass out, or exclude fewer layers")
        for layer in layers:
            if not self.grid.fits(layer_of(deployed, layer).weight):
                raise RecipeError(
                    f"the weights of {layer} don't divide into groups of {self.group}", hint=f"choose another group, or exclude: [{layer}]"
                )
        return {"folds": folds, "layers": layers}

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Fold batch norms away; other weights change no structure."""
        return restructured(module, read_folds(plan["folds"]))


def nearest(layer: torch.nn.Conv2d, grid: WeightGrid) -> torch.Tensor:
    """Return a layer's weights as a quantizer rounds them."""
    return grid.nearest(layer.weight.detach().double().flatten(1)).reshape(layer.weight.shape).to(layer.weight.dtype)


def ran(module: torch.nn.Module, layers: Sequence[str], example: Batch) -> set[str]:
    """Layers that are called when the module runs; what nn.MultiheadAttention holds is only read, and can't be watched."""
    import torch

    called: set[str] = set()
    hooks = ((module.get_submodule(name), lambda *_, name=name: called.add(name)) for name in layers)
    with hooked(hooks), torch.no_grad():
        predictions(module, {name: torch.from_numpy(array) for name, array in example.items()})
    return called


class _Reached(Exception):  # noqa: N818 - ends a forward run early; nothing is wrong
    pass


def watch(made: torch.nn.Module, original: torch.nn.Module, layer: str, context: Context, samples: int, see: See) -> None:
    """Run calibration samples through both models as far as a layer, a few at a time.

    Raises:
        RecipeError: the recipe names no calibration set.
    """
    found: dict[str, torch.Tensor] = {}

    def read(_: torch.nn.Module, inputs: Any) -> None:
        found["x"] = inputs[0]
        raise _Reached

    def gave(_: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
        found["y"] = output
        raise _Reached

    handles = [
        made.get_submodule(layer).register_forward_pre_hook(read),
        original.get_submodule(layer).register_forward_hook(gave),
    ]
    try:
        for inputs in calibration(context, samples):
            _run_until_reached((made, original), inputs)
            see(found["x"], found["y"])
    finally:
        for handle in handles:
            handle.remove()


def _run_until_reached(modules: Sequence[torch.nn.Module], inputs: Tensors) -> None:
    for module in modules:
        try:
            predictions(module, inputs)
        except _Reached:
            continue
