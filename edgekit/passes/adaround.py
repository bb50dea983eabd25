"""AdaRound: weights rounded up or down, layer after layer, so that each layer's outputs change least; every format then rounds nothing."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.algorithms.layers import is_linear, layer_of
from edgekit.algorithms.rounding import Descent, Moments, adaptive, clipped
from edgekit.core.plugin import Improvement
from edgekit.passes._deployed import folded
from edgekit.passes._on_grid import OnGrid, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from edgekit.core.plugin import Context


class AdaRound(OnGrid):
    """Put the weights of convolutions and linear layers on the integer grid that the formats' quantizers choose, and correct the biases.

    Layers are taken in the order of the graph; each is fitted to the float model's outputs on what the rounded layers before it give
    (asymmetric reconstruction, section 4.3).

    Reference: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv:2004.10568).
    """

    clip: bool = Field(True, description="Let few large weights go to the end of a narrower grid where that costs less.")
    iterations: int = Field(1000, ge=1, le=100_000, description="Steps of the search in each layer.")
    learning_rate: float = Field(0.03, gt=0, description="Of the rounding variables.")
    regularization: float = Field(0.1, ge=0, description="Weight of the term that drives rounding variables to up or down.")

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Round layer after layer.

        Raises:
            RecipeError: the recipe names no calibration set.
        """
        original = folded(module, plan["folds"]).eval()
        made = copy.deepcopy(original)
        errors = {}
        for index, layer in enumerate(plan["layers"], start=1):
            errors[layer] = self._round(made, original, layer, context)
            context.progress.advance(index, len(plan["layers"]), layer)
        worst = max(errors, key=lambda name: errors[name]["rounded"])
        note = (
            f"{len(errors)} layers rounded to {self.bits} bits; the largest error at a layer's outputs is {errors[worst]['rounded']:.2%}"
            f" of its signal, in {worst}"
        )
        return Improvement(made, {"errors": errors}, (note,))

    def _round(self, made: torch.nn.Module, original: torch.nn.Module, name: str, context: Context) -> dict[str, float]:
        """Round one layer in place; return the error of its outputs relative to their signal, as it is and with nearest rounding."""
        import torch

        layer = layer_of(made, name)
        moments = self._moments(made, original, name, context)
        quadratic = moments.quadratic(biased=layer.bias is not None)
        matrix = layer.weight.detach().double().flatten(1)
        shape = quadratic.yx.shape
        signal = float(quadratic.yy.sum()) or 1.0
        nearest = self.grid.nearest(matrix)
        start = clipped(matrix, quadratic, self.grid) if self.clip else matrix
        rounded = adaptive(start, quadratic, self.grid, Descent(self.iterations, self.learning_rate, self.regularization))
        with torch.no_grad():
            layer.weight.copy_(rounded.reshape(layer.weight.shape))
            if layer.bias is not None:
                layer.bias.copy_(quadratic.bias(rounded.reshape(shape)).flatten())
        return {
            "rounded": float(quadratic.errors(rounded.reshape(shape)).sum()) / signal,
            "nearest": float(quadratic.errors(nearest.reshape(shape)).sum()) / signal,
        }

    def _moments(self, made: torch.nn.Module, original: torch.nn.Module, name: str, context: Context) -> Moments:
        layer = layer_of(made, name)
        groups = getattr(layer, "groups", 1)
        moments = Moments.empty(groups, layer.weight[0].numel(), len(layer.weight) // groups)
        patches = patches_of(layer)

        def see(x: torch.Tensor, y: torch.Tensor) -> None:
            for one, wanted in zip(x, y, strict=True):
                moments.add(by_group(patches(one[None]), layer), by_group(wanted[None], layer))

        watch(made, original, name, context, self.samples, see)
        return moments


def patches_of(layer: torch.nn.Conv2d) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what gives, for inputs of a layer, all that its outputs read: a channel for each weight of an output channel and group."""
    import torch

    if is_linear(layer):
        return torch.nn.Identity()
    width = layer.weight[0].numel()
    probe: torch.nn.Conv2d = type(layer)(
        layer.in_channels,
        layer.groups * width,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        bias=False,
        padding_mode=layer.padding_mode,
    )
    identity = torch.eye(width).reshape(width, *layer.weight.shape[1:])
    probe.weight.data = identity.repeat(layer.groups, *[1] * (layer.weight.ndim - 1))
    return probe.requires_grad_(False)


def by_group(values: torch.Tensor, layer: torch.nn.Conv2d) -> torch.Tensor:
    """View the channels that a layer reads or gives as [groups, channels of a group, positions]."""
    linear = is_linear(layer)
    channels = values.flatten(0, -2).mT if linear else values.transpose(0, 1).flatten(1)
    groups = 1 if linear else layer.groups
    return channels.reshape(groups, len(channels) // groups, -1)
