"""Quantization-aware training of int4 weights: they learn, with the scales of their groups, to lie on the grid that the formats store.

It starts best from weights that :mod:`gptq` or :mod:`awq` has put on the grid, whose scales it takes up. The grid is that of
:mod:`edgekit.algorithms.int4`, so every format's int4 quantizer stores what was trained bit for bit.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.algorithms.int4 import Grid, to_grid
from edgekit.core.plugin import Improvement, Pass
from edgekit.core.recipe import PluginWish
from edgekit.passes._calibration import Int4, matrix_products, set_weights
from edgekit.passes._engine import Training, train
from edgekit.passes._objectives import Lesson, from_labels, from_teacher, in_float, loaded, task_of

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context
    from edgekit.passes._engine import Objective

SMALLEST = 2.0**-24
"""The smallest scale that fp16 holds."""


class OutputsAlone(Lesson):
    """What a network that only has to stay as it was is taught."""

    temperature: float = Field(1.0, gt=0, description="Softens the class distributions that are compared.")
    labels: float = Field(0.0, ge=0, le=1, description="Share of the loss on labels in that on labels and outputs; 0 needs no labels.")


class LightTraining(Training):
    """How weights are trained that mostly stay where they are."""

    batch: int = Field(16, ge=1, description="Samples in a step, on all processes together.")
    weight_decay: float = Field(0.0, ge=0, description="On weights; biases and norms have none.")


class QatInt4(Pass):
    """Train linear layers with their weights rounded to int4 in every step, and everything else as it is.

    References: Bengio et al. 2013 (arXiv:1308.3432) for gradients that pass rounding straight through; Esser et al. 2020
    (arXiv:1902.08153) for trained scales, as logarithms after Jain et al. 2020 (arXiv:1903.08066); Liu et al. 2023, "LLM-QAT: Data-Free
    Quantization Aware Training for Large Language Models" (arXiv:2305.17888), for the original as the teacher, on what it tells itself.
    """

    trains = True
    requires = {"accelerate": "accelerate"}

    grid: Int4 = Int4()
    teacher: PluginWish | None = Field("original", description="'original' or any other teacher; null learns from labels alone.")
    lesson: OutputsAlone = OutputsAlone()
    training: LightTraining = LightTraining()
    exclude: tuple[str, ...] = Field((), description="Layer names or glob patterns that stay in float.")

    @property
    def taught_by(self) -> PluginWish | None:
        """The teacher."""
        return self.teacher

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Say which layers' weights are rounded, and to which grid.

        Raises:
            RecipeError: an exclude pattern that matches nothing, or no linear layer.
        """
        return {"grid": self.grid.model_dump(mode="json"), "layers": list(matrix_products(module, self.exclude))}

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Train, and leave the weights on their grid.

        Raises:
            RecipeError: no training set, no teacher, or the training diverges.
            DataError: labels that don't fit the task.
        """
        from torch.nn.utils import parametrize

        grid = Int4(**plan["grid"])
        rounders = {name: _rounder()(_grid(module, name, grid)) for name in plan["layers"]}
        for name, rounder in rounders.items():
            parametrize.register_parametrization(module.get_submodule(name), "weight", rounder, unsafe=True)
        history = train(module, self._objective(context), self.training, context)
        for name in rounders:
            parametrize.remove_parametrizations(module.get_submodule(name), "weight")
            set_weights(module, name, _on_grid(module, name, grid))
        return Improvement(module.eval(), history.record(), (history.note(), grid.note(len(rounders))))

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Weights change, structure does not."""
        return module

    def _objective(self, context: Context) -> Objective:
        task = task_of(context)
        return in_float(from_teacher(task, loaded(context.teacher), self.lesson) if self.teacher else from_labels(task))


def _grid(module: torch.nn.Module, name: str, grid: Int4) -> Grid:
    weight: Any = module.get_submodule(name).weight
    return to_grid(weight.detach().numpy(), grid.group, symmetric=grid.symmetric)


def _on_grid(module: torch.nn.Module, name: str, grid: Int4) -> torch.Tensor:
    """A layer's weights as the quantizers read them: what was trained lies on a grid already, up to the last digit."""
    import torch

    return torch.from_numpy(_grid(module, name, grid).weights())


@cache
def _rounder() -> Any:
    import numpy as np
    import torch

    class Int4Rounder(torch.nn.Module):
        """Rounds weights [C, K] to a grid whose scales [C, G] grow and shrink by trained powers of e."""

        start: torch.Tensor
        points: torch.Tensor

        def __init__(self, start: Grid) -> None:
            super().__init__()
            self._group = start.group
            self._lowest = -8 if start.zero_points is None else 0
            points = np.zeros(1) if start.zero_points is None else start.spread(start.zero_points)
            self.register_buffer("start", torch.from_numpy(start.scales.copy()))
            self.register_buffer("points", torch.from_numpy(points.astype(np.float32)))

        def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return weight.clone(), torch.zeros_like(self.start)

        def forward(self, weight: torch.Tensor, growth: torch.Tensor) -> torch.Tensor:
            scales = (self.start * growth.exp()).clamp_min(SMALLEST)
            short = scales + (scales.half().float() - scales).detach()
            steps = short.repeat_interleave(self._group, 1)[:, : weight.shape[1]]
            wanted = torch.clamp(weight / steps, self._lowest - self.points, self._lowest + 15 - self.points)
            rounded: torch.Tensor = (wanted + (wanted.round() - wanted).detach()) * steps
            return rounded

    return Int4Rounder
