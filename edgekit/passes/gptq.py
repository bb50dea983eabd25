"""GPTQ: weights go to an int4 grid one column after the other, and the columns to come make up for each error.

The solver is Neural Compressor's. Its grid is not: its scales have more digits than the formats keep, so weights would move once more
when they are stored. The grid comes from :mod:`edgekit.algorithms.int4`, from which every format's int4 quantizer stores them bit for bit.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.algorithms.grid_descent import descend
from edgekit.algorithms.int4 import Grid, to_grid
from edgekit.core.chatter import muted
from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Improvement, Pass
from edgekit.passes._calibration import Int4, matrix_products, set_weights, stages, watch_both, weights_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    from edgekit.core.plugin import Context

COLUMNS = 128
"""Columns after which errors are passed on to the rest of the matrix."""
SMALLEST = 1e-8


class Gptq(Pass):
    """Put the weights of linear layers on an int4 grid with the least error of the layers' outputs.

    References: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
    (arXiv:2210.17323); for errors of earlier layers, which later weights make up for, Arai and Ichikawa 2025 (arXiv:2504.09629);
    for the descent Behdin et al. 2023 (arXiv:2309.01885).
    """

    requires = {"cpuinfo": "py-cpuinfo", "psutil": "psutil", "prettytable": "prettytable", "neural_compressor": "neural-compressor"}

    grid: Int4 = Int4()
    samples: int = Field(128, ge=1, description="Calibration samples to read.")
    damping: float = Field(0.01, gt=0, lt=1, description="Share of the mean curvature that is added, for stability.")
    rounds: int = Field(4, ge=0, le=100, description="Rounds of coordinate descent after the solver, over integers and scales.")
    exclude: tuple[str, ...] = Field((), description="Layer names or glob patterns that stay as they are.")

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Say which layers change, and how.

        Raises:
            RecipeError: an exclude pattern that matches nothing, or no linear layer.
        """
        layers = list(matrix_products(module, self.exclude))
        settings = self.model_dump(mode="json", include={"grid", "samples", "damping", "rounds"})
        return {**settings, "layers": layers}

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Solve layer after layer, each on what the ones before now give it, towards what the original makes of its own inputs.

        Raises:
            RecipeError: no calibration set, or inputs too alike to solve for.
        """
        import torch

        with muted():
            from neural_compressor.torch.algorithms.weight_only.gptq import GPTQ

        grid, damping = Int4(**plan["grid"]), plan["damping"]
        reference = copy.deepcopy(module)
        errors: dict[str, float] = {}
        for stage in stages(module, plan["layers"], context.example):
            solvers = {name: GPTQ(module.get_submodule(name), weights_of(module, name), "cpu") for name in stage}
            crossed: dict[str, torch.Tensor] = {}
            watch_both(module, reference, stage, context, plan["samples"], partial(_see, solvers, crossed))
            for name, solver in solvers.items():
                before, curvature = weights_of(module, name), solver.H.clone()
                wanted = _corrected(before, curvature, crossed[name] * (2 / solver.nsamples), damping)
                start = _grid(wanted, grid, curvature)
                solver.quantizer = _OnGrid(start)
                solved = replace(start, integers=_integers(_solved(solver, wanted.clone(), start.group, damping, name), start))
                best = descend(solved, wanted.numpy(), curvature.numpy(), plan["rounds"])
                made = torch.from_numpy(best.weights())
                errors[name] = _share(made - wanted, before, curvature)
                set_weights(module, name, made)
        record = {"output_error": {name: round(error, 8) for name, error in errors.items()}}
        return Improvement(module.eval(), record, (grid.note(len(errors)),))

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Weights change, structure does not."""
        return module


def _see(solvers: dict[str, Any], crossed: dict[str, torch.Tensor], name: str, rows: torch.Tensor, wanted: torch.Tensor) -> None:
    solvers[name].add_batch(rows, None)
    product = wanted.T @ rows
    crossed[name] = crossed[name] + product if name in crossed else product


def _corrected(weights: torch.Tensor, curvature: torch.Tensor, crossed: torch.Tensor, damping: float) -> torch.Tensor:
    """Weights that make of the inputs as they are now what the original makes of its own (ridge regression towards the original)."""
    import torch

    ridge = damping * curvature.diagonal().mean().clamp_min(SMALLEST) * torch.eye(len(curvature))  # a layer may read nothing but zeros
    solved: torch.Tensor = torch.linalg.solve(curvature + ridge, (weights @ (crossed + ridge)).T)
    return solved.T.contiguous()


def _grid(weights: torch.Tensor, grid: Int4, curvature: torch.Tensor) -> Grid:
    power = curvature.diagonal().numpy()
    return to_grid(weights.numpy(), grid.group, symmetric=grid.symmetric, importance=power)


def _integers(weights: torch.Tensor, grid: Grid) -> np.ndarray:
    """Integers of weights that lie on a grid."""
    import numpy as np

    points = 0 if grid.zero_points is None else grid.spread(grid.zero_points)
    return np.asarray(np.rint(weights.numpy() / grid.spread(grid.scales)) + points).astype(np.int8)


def _solved(solver: Any, weights: torch.Tensor, group: int, damping: float, name: str) -> torch.Tensor:
    with muted():
        try:
            _, _, _, made = solver.fasterquant(
                weights, blocksize=COLUMNS, percdamp=damping, groupsize=group, act_order=True, static_groups=True
            )
        except RuntimeError as problem:
            raise RecipeError(f"{name}: its inputs are too alike to solve for", hint="raise 'damping', or give more samples") from problem
    result: torch.Tensor = made
    return result


def _share(error: torch.Tensor, weights: torch.Tensor, curvature: torch.Tensor) -> float:
    """Power of a layer's output error as a share of its output's power."""
    return float(((error @ curvature) * error).sum() / ((weights @ curvature) * weights).sum().clamp_min(1e-30))


class _OnGrid:
    """Takes the place of Neural Compressor's quantizer of one group of columns; scales and zero points are ours."""

    maxq = 15

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.scale: torch.Tensor | None = None
        self.zero: torch.Tensor | None = None

    def ready(self) -> bool:
        """Say yes: each group's scales are known."""
        return True

    def find_params(self, columns: torch.Tensor, weight: bool) -> None:
        """Take up the scales of the group whose columns these are: a view, which tells where they begin."""
        import torch

        group = columns.storage_offset() // self._grid.group
        points = self._grid.zero_points
        self.scale = torch.from_numpy(self._grid.scales[:, group, None].copy())
        self.zero = torch.zeros_like(self.scale) if points is None else torch.from_numpy(points[:, group, None]).float()

    def quantize(self, values: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, maxq: int) -> torch.Tensor:
        """Round to the grid."""
        low = -8 if self._grid.zero_points is None else 0
        return ((values / scale).round().add(zero).clamp(low, low + maxq) - zero) * scale
