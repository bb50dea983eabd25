"""Bias correction: rounding weights shifts the mean of each output channel; the biases take the shift back."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from edgekit.algorithms.layers import is_linear, layer_of
from edgekit.core.plugin import Improvement
from edgekit.passes._deployed import folded
from edgekit.passes._on_grid import OnGrid, nearest, watch

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


class BiasCorrect(OnGrid):
    """Fold batch norm, then correct biases for the grid that a quantizer will round the weights to; the weights stay as they are.

    Layers are taken in the order of the graph, each on what the rounded and corrected layers before it give, until every channel has
    the mean that it has in the float model.

    Reference: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721), section
    4.2, by calibration samples as in appendix D.
    """

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Correct layer after layer.

        Raises:
            RecipeError: the recipe names no calibration set.
        """
        original = folded(module, plan["folds"]).eval()
        rounded, corrected = copy.deepcopy(original), copy.deepcopy(original)
        layers = [name for name in plan["layers"] if layer_of(original, name).bias is not None]
        for name in plan["layers"]:
            layer_of(rounded, name).weight.data = nearest(layer_of(original, name), self.grid)
        shifts = {}
        for index, name in enumerate(layers, start=1):
            shift = self._shift(rounded, original, name, context)
            for model in (rounded, corrected):
                layer_of(model, name).bias.data += shift  # type: ignore[union-attr]
            shifts[name] = float(shift.abs().max())
            context.progress.advance(index, len(layers), name)
        missing = len(plan["layers"]) - len(layers)
        notes = (f"biases of {len(layers)} layers corrected", *([f"{missing} layers have no bias to correct"] if missing else []))
        return Improvement(corrected, {"largest shifts": shifts}, notes)

    def _shift(self, rounded: torch.nn.Module, original: torch.nn.Module, name: str, context: Context) -> torch.Tensor:
        """Mean of what is missing in each channel of a layer's outputs."""
        import torch

        layer = layer_of(rounded, name)
        axis = -1 if is_linear(layer) else 1
        total, count = torch.zeros(len(layer.weight), dtype=torch.float64), 0

        def see(x: torch.Tensor, y: torch.Tensor) -> None:
            nonlocal count
            missing = (y - layer.forward(x)).movedim(axis, -1).flatten(0, -2)
            total.add_(missing.double().sum(0))
            count += len(missing)

        watch(rounded, original, name, context, self.samples, see)
        return (total / count).to(layer.weight.dtype)
