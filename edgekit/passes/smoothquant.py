"""SmoothQuant: outliers of activations move into the weights that multiply them, so that int8 ranges fit both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.plugin import Improvement, Pass
from edgekit.passes._calibration import matrix_products, watch, weights_of
from edgekit.passes._folding import Fold, find_folds, fold

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context

SMALLEST = 1e-5
"""Largest magnitudes below this are taken for it, so that a dead channel gets no enormous scale."""


class SmoothQuant(Pass):
    """Scale channels between a norm and the linear layers behind it; what the model computes in float stays the same.

    Reference: Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models"
    (arXiv:2211.10438), equation 4.
    """

    strength: float = Field(0.5, ge=0, le=1, description="Share of the difficulty that moves from activations into weights.")
    samples: int = Field(128, ge=1, description="Calibration samples to read.")
    exclude: tuple[str, ...] = Field((), description="Linear layers, by name or glob pattern, whose inputs stay as they are.")

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Find each channel's scale on calibration samples.

        Raises:
            RecipeError: no calibration set, an exclude pattern that matches nothing, or no linear layer.
        """
        import torch

        layers = list(matrix_products(module, self.exclude))
        folds = find_folds(module, layers, context.example, linear=False)
        largest: dict[str, torch.Tensor] = {}

        def see(name: str, rows: torch.Tensor) -> None:
            peaks = rows.abs().amax(0)
            largest[name] = torch.maximum(largest[name], peaks) if name in largest else peaks

        watch(module, [found.targets[0] for found in folds], context, self.samples, see)
        plan = []
        for found in folds:
            weights = torch.stack([weights_of(module, name).abs().amax(0) for name in found.targets]).amax(0)
            activations = largest[found.targets[0]].clamp_min(SMALLEST)
            scales = activations**self.strength / weights.clamp_min(SMALLEST) ** (1 - self.strength)
            plan.append({"source": found.source, "targets": list(found.targets), "scales": scales.tolist()})
        return plan

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Move the scales."""
        import torch

        for row in plan:
            fold(module, Fold(row["source"], tuple(row["targets"])), torch.tensor(row["scales"]))
        note = f"smoothed the inputs of {sum(len(row['targets']) for row in plan)} linear layers behind {len(plan)} norms"
        return Improvement(module.eval(), {}, (note if plan else "nothing to smooth: no norm gives its output to linear layers alone",))

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Weights change, structure does not."""
        return module
