"""AWQ: channels with strong activations get finer int4 steps, by a scale that the layer before undoes; the graph needs nothing extra.

Written here rather than taken from Neural Compressor, whose search traces the model with TorchScript, leaves multiplications in the graph
where it finds no layer to fold into, and rounds with scales of more digits than the formats keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.algorithms.int4 import to_grid
from edgekit.core.plugin import Improvement, Pass
from edgekit.passes._calibration import Int4, matrix_products, set_weights, watch, weights_of
from edgekit.passes._folding import Fold, find_folds, fold

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context

STEPS = 20
"""Exponents tried between 0 (plain rounding) and 1."""
SMALLEST = 1e-4


class Awq(Pass):
    """Search scales that protect what activations make important, fold them, and put the weights on an int4 grid.

    Reference: Lin et al. 2023, "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration" (arXiv:2306.00978),
    section 3.2. Both the exponents and the ranges that clip outliers are those with the least error of the layers' outputs.
    """

    grid: Int4 = Int4()
    samples: int = Field(128, ge=1, description="Calibration samples to read.")
    exclude: tuple[str, ...] = Field((), description="Layer names or glob patterns that stay as they are.")
    rounds: bool = Field(True, description="Put the weights on the grid; no to fold scales only and leave that to gptq.")

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Find each channel's scale on calibration samples.

        Raises:
            RecipeError: no calibration set, an exclude pattern that matches nothing, or no linear layer.
        """
        import torch

        layers = list(matrix_products(module, self.exclude))
        folds = find_folds(module, layers, context.example, linear=True)
        means: dict[str, torch.Tensor] = {}
        grams: dict[str, torch.Tensor] = {}
        counts: dict[str, int] = {}

        def see(name: str, rows: torch.Tensor) -> None:
            means[name] = means.get(name, torch.zeros(rows.shape[1])) + rows.abs().sum(0)
            grams[name] = grams.get(name, torch.zeros(rows.shape[1], rows.shape[1])) + rows.T @ rows
            counts[name] = counts.get(name, 0) + len(rows)

        watch(module, [found.targets[0] for found in folds], context, self.samples, see)
        rows = []
        for found in folds:
            first = found.targets[0]
            weights = [weights_of(module, name) for name in found.targets]
            strength, scales = self._best(weights, means[first] / counts[first], grams[first])
            rows.append({"source": found.source, "targets": list(found.targets), "strength": strength, "scales": scales.tolist()})
        return {"grid": self.grid.model_dump(), "samples": self.samples, "layers": layers if self.rounds else [], "folds": rows}

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Fold the scales and round.

        Raises:
            RecipeError: no calibration set.
        """
        import torch

        grid = Int4(**plan["grid"])
        for row in plan["folds"]:
            fold(module, Fold(row["source"], tuple(row["targets"])), torch.tensor(row["scales"]))
        folded = f"{len(plan['folds'])} scales folded into earlier layers"
        if not plan["layers"]:
            return Improvement(module.eval(), {}, (folded,))
        power: dict[str, torch.Tensor] = {}

        def see(name: str, rows: torch.Tensor) -> None:
            power[name] = power.get(name, torch.zeros(rows.shape[1])) + (rows**2).sum(0)

        watch(module, plan["layers"], context, plan["samples"], see)
        for name, strength in power.items():
            set_weights(module, name, _rounded(weights_of(module, name), grid, strength))
        return Improvement(module.eval(), {}, (grid.note(len(power)), folded))

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Weights change, structure does not."""
        return module

    def _best(self, weights: list[torch.Tensor], means: torch.Tensor, gram: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Return the exponent whose scales make the squared error of the layers' outputs least, and those scales."""
        best: tuple[float, float, torch.Tensor] | None = None
        for step in range(STEPS + 1):
            scales = means.clamp_min(SMALLEST) ** (step / STEPS)
            scales = scales / (scales.max() * scales.min()).sqrt()
            power = gram.diagonal() / scales**2
            errors = [_rounded(matrix * scales, self.grid, power) / scales - matrix for matrix in weights]
            loss = sum(float(((error @ gram) * error).sum()) for error in errors)
            if best is None or loss < best[0]:
                best = loss, step / STEPS, scales
        assert best is not None
        return best[1], best[2]


def _rounded(weights: torch.Tensor, grid: Int4, power: torch.Tensor) -> torch.Tensor:
    import torch

    found = to_grid(weights.numpy(), grid.group, symmetric=grid.symmetric, importance=power.numpy())
    return torch.from_numpy(found.weights())
