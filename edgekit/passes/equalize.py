"""Cross-layer equalization: moves the scales of channels between layers until integer grids fit them all; in float nothing changes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.algorithms.equalization import equalized, pull_of, rescale
from edgekit.algorithms.folding import fold, restructured
from edgekit.algorithms.layers import Channels, channel_groups, is_linear, layer_of
from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Improvement, Pass
from edgekit.passes._deployed import captured, folded, folds_of, read_folds, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from edgekit.core.plugin import Context


class Equalize(Pass):
    """Fold batch norm, then even out the ranges of weights and activations from channel to channel.

    References: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721), section
    4.1; for activations Xiao et al. 2023, "SmoothQuant" (arXiv:2211.10438).
    """

    granularity: Literal["channel", "tensor"] = Field("channel", description="How many scales the quantized weights will have.")
    activations: float = Field(
        1.0,
        ge=0,
        description="How much the ranges of activations count against those of weights; 0 looks at weights alone, without samples.",
    )
    samples: int = Field(128, ge=1, description="Calibration samples that show the ranges of activations.")

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Find the channels that may be scaled and by how much.

        Raises:
            RecipeError: the model's graph can't be captured, no channels may be scaled, or there are no calibration samples.
        """
        folds = folds_of(module, context)
        deployed = folded(module, folds)
        groups = channel_groups(captured(deployed, context), deployed)
        if not groups:
            raise RecipeError(
                "equalize finds no two layers with nothing but ReLU, LeakyReLU, PReLU, pooling or sums between them",
                hint="leave it out: there is no channel whose scale could be moved",
            )
        seen = self._seen(deployed, groups, context) if self.activations else {}
        pulls = [pull_of(deployed, group, self.granularity, self.activations) for group in groups]
        scales = equalized(deployed, groups, pulls, seen)
        return {
            "folds": folds,
            "groups": [{**asdict(group), "scales": found.tolist()} for group, found in zip(groups, scales, strict=True)],
        }

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Fold and scale."""
        import torch

        fold(module, read_folds(plan["folds"]))
        widest = 1.0
        for group in plan["groups"]:
            channels = Channels(group["count"], tuple(group["producers"]), tuple(group["consumers"]))
            scales = torch.tensor(group["scales"], dtype=torch.float64)
            rescale(module, channels, scales)
            widest = max(widest, float(scales.max() / scales.min()))
        return Improvement(
            module, {}, (f"{len(plan['folds'])} batch norms folded, {len(plan['groups'])} tensors evened out, by up to {widest:.1f}x",)
        )

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Fold batch norms away; scales change no structure."""
        return restructured(module, read_folds(plan["folds"]))

    def _seen(self, module: torch.nn.Module, groups: Sequence[Channels], context: Context) -> dict[int, torch.Tensor]:
        """Largest absolute value that the layers that read each group find in its channels."""
        import torch

        seen = {index: torch.zeros(group.count) for index, group in enumerate(groups)}
        handles = []
        for index, group in enumerate(groups):

            def look(layer: torch.nn.Module, inputs: Any, index: int = index) -> None:
                values = inputs[0].detach().abs()
                if not is_linear(layer):
                    values = values.movedim(1, -1)
                channels = values.reshape(-1, len(seen[index]), values.shape[-1] // len(seen[index]))
                seen[index] = torch.maximum(seen[index], channels.amax((0, 2)))

            handles += [layer_of(module, name).register_forward_pre_hook(look) for name in group.consumers]
        run(module, context, self.samples)
        for handle in handles:
            handle.remove()
        return seen
