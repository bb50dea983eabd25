"""Rounds tensors to an integer grid in training, with gradients for values and for the ends of their ranges.

References: Jacob et al. 2018 (arXiv:1712.05877) for training with simulated quantization; Bengio et al. 2013 (arXiv:1308.3432) for
gradients that pass rounding straight through; Esser et al. 2020 (arXiv:1902.08153), sections 2.1 and 2.2, for the gradient of a step
size and its scale; Jain et al. 2020 (arXiv:1903.08066) for ranges trained as logarithms, so that a step changes each in proportion.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LEVELS = 255
"""Steps between the ends of an 8-bit range; one less on a symmetric grid."""


def on_grid(weight: torch.Tensor, most: int, *, per_channel: bool) -> torch.Tensor:
    """Round weights [O, ...] to the symmetric grid that the largest magnitude spans, as every format's own quantizer chooses it.

    Args:
        weight: any floats; gradients pass straight through.
        most: largest integer (127 for 8 bits).
        per_channel: one grid for each output channel, or one for the tensor.
    """
    import torch

    held = weight.detach()
    largest = held.abs().amax(dim=tuple(range(1, held.ndim)), keepdim=True) if per_channel else held.abs().max()
    step = torch.where(largest > 0, largest, torch.ones_like(largest)) / most
    return weight + (torch.round(held / step) * step - held)


def weight_rounder(most: int, *, per_channel: bool) -> torch.nn.Module:
    """Return a module that puts weights on their grid; see :func:`on_grid`."""
    import torch

    class WeightRounder(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return on_grid(weight, most, per_channel=per_channel)

    return WeightRounder()


def tensor_rounder(*, symmetric: bool) -> Any:
    """Return a module that rounds activations to an 8-bit grid over a trained range that contains zero.

    It has ``set_range(low, high)``, what to start from; ``range()``, the ends of its grid as it is now; and ``active``: while that is
    false, and while its range is empty, it returns values as they are.

    Args:
        symmetric: whether zero lies in the middle of the grid.
    """
    return _tensor_rounder()(symmetric)


@cache
def _tensor_rounder() -> Any:
    import torch

    class TensorRounder(torch.nn.Module):
        start: torch.Tensor

        def __init__(self, symmetric: bool) -> None:
            super().__init__()
            self.symmetric = symmetric
            self.active = True
            self.growth = torch.nn.Parameter(torch.zeros(2))
            self.register_buffer("start", torch.zeros(2))

        def set_range(self, low: float, high: float) -> None:
            bound = max(-low, high)
            self.start.copy_(torch.tensor([-bound, bound] if self.symmetric else [min(low, 0.0), max(high, 0.0)]))

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            if not self.active or not bool(self.start.any()):
                return values
            low, high = self._ends().unbind()
            rounded: torch.Tensor = _rounding().apply(values.float(), low, high, self._levels())
            return rounded

        def range(self) -> tuple[float, float]:
            low, high = self._ends().detach().unbind()
            step, zero = _grid(low, high, self._levels())
            return -float(zero * step), float((self._levels() - zero) * step)

        def _ends(self) -> torch.Tensor:
            growth = self.growth[1:].expand(2) if self.symmetric else self.growth
            return self.start * growth.exp()

        def _levels(self) -> int:
            return LEVELS - 1 if self.symmetric else LEVELS

    return TensorRounder


@cache
def _rounding() -> Any:
    import torch

    class Rounding(torch.autograd.Function):
        """Affine rounding; the gradient for the ends of the range is that of the step size and of what is clipped."""

        @staticmethod
        def forward(ctx: Any, values: torch.Tensor, low: torch.Tensor, high: torch.Tensor, levels: int) -> torch.Tensor:
            step, zero = _grid(low, high, levels)
            rounded = torch.fake_quantize_per_tensor_affine(values, step, zero.int(), 0, levels)
            ctx.save_for_backward(values, rounded, step, zero)
            ctx.levels = levels
            return rounded

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
            (gradient,) = gradients
            values, rounded, step, zero = ctx.saved_tensors
            over = values > (ctx.levels - zero + 0.5) * step
            under = values < -(zero + 0.5) * step
            passed = gradient.masked_fill(over | under, 0)
            along = torch.sum(passed * (rounded - values)) / (step * ctx.levels)
            scale = 1 / math.sqrt(values.numel() * ctx.levels)
            for_low = torch.sum(gradient * under) - along
            for_high = torch.sum(gradient * over) + along
            return passed, for_low * scale, for_high * scale, None

    return Rounding


def _grid(low: torch.Tensor, high: torch.Tensor, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Step and zero point of the grid over a range."""
    import torch

    step = ((high - low) / levels).clamp_min(torch.finfo(torch.float32).tiny)
    return step, torch.round(-low / step).clamp(0, levels)
