"""Batch norm folded into the layer before it: what a deployed network computes, and what its weights look like there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from edgekit.algorithms.layers import calls, operator

if TYPE_CHECKING:
    import torch

Norms = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")


@dataclass(frozen=True)
class Fold:
    """A layer and the batch norm that nothing but follows it."""

    layer: str
    norm: str


def foldable(program: torch.export.ExportedProgram, module: torch.nn.Module) -> list[Fold]:
    """Find the batch norms that alone read the output of a convolution or linear layer."""
    names = {**program.graph_signature.inputs_to_buffers, **program.graph_signature.inputs_to_parameters}
    found = []
    for call in calls(program, module):
        readers = list(call.node.users)
        if len(readers) != 1 or operator(readers[0]) != "batch_norm" or readers[0].args[0] is not call.node or call.channel_axis != 1:
            continue
        mean = readers[0].args[3]
        norm = names.get(getattr(mean, "name", ""), "").removesuffix(".running_mean")
        alone = len(getattr(mean, "users", ())) == 1
        if alone and type(module.get_submodule(norm)).__name__ in Norms:
            found.append(Fold(call.layer, norm))
    return found


def fold(module: torch.nn.Module, folds: Sequence[Fold]) -> torch.nn.Module:
    """Move each norm's scale and shift into its layer, in place, and put an identity where it was; in float the outputs stay the same."""
    import torch

    for pair in folds:
        layer, norm = _layer(module, pair.layer), cast("torch.nn.BatchNorm2d", module.get_submodule(pair.norm))
        mean, variance = cast("torch.Tensor", norm.running_mean), cast("torch.Tensor", norm.running_var)
        with torch.no_grad():
            scale = (variance.double() + norm.eps).rsqrt()
            shift = -mean.double() * scale
            if norm.affine:
                scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
            bias = layer.bias.double() * scale if layer.bias is not None else torch.zeros_like(shift)
            weight = layer.weight.double() * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
            layer.weight.copy_(weight)
            layer.bias = torch.nn.Parameter((bias + shift).to(layer.weight.dtype), requires_grad=layer.weight.requires_grad)
    return restructured(module, folds)


def restructured(module: torch.nn.Module, folds: Sequence[Fold]) -> torch.nn.Module:
    """Do only what folding does to the structure: identities for norms, a bias for every layer."""
    import torch

    for pair in folds:
        layer = _layer(module, pair.layer)
        if layer.bias is None:
            layer.bias = torch.nn.Parameter(torch.zeros(len(layer.weight), dtype=layer.weight.dtype))
        parent, _, name = pair.norm.rpartition(".")
        setattr(module.get_submodule(parent), name, torch.nn.Identity())
    return module


def _layer(module: torch.nn.Module, name: str) -> torch.nn.Conv2d:
    return cast("torch.nn.Conv2d", module.get_submodule(name))
