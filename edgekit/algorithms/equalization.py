"""Scales that even out the ranges of channels, moved from the weights that write a tensor to the weights that read it.

An integer grid is as wide as the widest channel on it. Where a network has nothing but positively homogeneous functions between two
layers, a channel's scale can be moved through them without changing any output: f(W1 x / s) s W2 = f(W1 x) W2. Three ranges pull at
s: that of the rows that write a channel, that of its activations, and that of the columns that read it. The scales chosen make the
logarithms of each kind of range vary least, weighed against each other; with rows and columns alone that is s = sqrt(r1 r2) / r2, up
to a factor that all channels share, which changes no grid and is left at 1 in the geometric mean.

References: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721), section 4.1;
for activations Xiao et al. 2023, "SmoothQuant" (arXiv:2211.10438).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.algorithms.layers import Channels, layer_of

if TYPE_CHECKING:
    import torch

ROUNDS = 200
SETTLED = 1e-5
"""Change of a scale's logarithm in a round that ends the search."""
LARGEST = 1024.0
"""Beyond this factor a channel is as good as dead, and what it does on other samples must not be blown up."""


@dataclass(frozen=True)
class Pull:
    """How much each kind of range counts: rows that write, activations, columns that read."""

    rows: float
    activations: float
    columns: float


def pull_of(module: torch.nn.Module, group: Channels, granularity: str, activations: float) -> Pull:
    """Return what counts on a grid: with a scale a channel, rows have their own anyway, and so do depthwise columns.

    Args:
        module: holds the layers.
        group: channels to scale.
        granularity: ``tensor`` or ``channel``: how many scales a weight has.
        activations: weight of the activations' ranges against those of the weights.
    """
    if granularity == "tensor":
        return Pull(1.0, activations, 1.0)
    shared = any(layer_of(module, name).weight.shape[1] > 1 for name in group.consumers)
    return Pull(0.0, activations, 1.0 if shared else 0.0)


def balanced(rows: torch.Tensor, activations: torch.Tensor | None, columns: torch.Tensor, pull: Pull) -> torch.Tensor:
    """Return the scales [C] by which to divide rows and multiply columns; 1 where a channel has no range.

    Args:
        rows: largest absolute weight that writes each channel.
        activations: largest absolute value of each channel; None where unknown.
        columns: largest absolute weight that reads each channel.
        pull: what counts how much.
    """
    import torch

    seen = torch.ones_like(rows) if activations is None else activations
    alive = (rows > 0) & (seen > 0) & (columns > 0)
    total = pull.rows + pull.columns + (0 if activations is None else pull.activations)
    if not total or not alive.any():
        return torch.ones_like(rows)
    wanted = torch.zeros_like(rows[alive])
    for weight, ranges in ((pull.rows, rows), (pull.activations, seen), (-pull.columns, columns)):
        log = ranges[alive].log()
        wanted += weight / total * (log - log.mean())
    scales = torch.ones_like(rows)
    scales[alive] = wanted.exp()
    return scales


def equalized(
    module: torch.nn.Module, groups: Sequence[Channels], pulls: Sequence[Pull], seen: Mapping[int, torch.Tensor]
) -> list[torch.Tensor]:
    """Find the scales of all groups, in turn until they settle, for a depthwise layer stands in two groups at once.

    Args:
        module: holds the layers; is left as it is.
        groups: channels to scale.
        pulls: what counts in each group.
        seen: largest absolute activation of each channel, by the group's position; none where activations don't count.

    Returns:
        Scales [C] of each group, float64.
    """
    import torch

    names = {name for group in groups for name in (*group.producers, *group.consumers)}
    weights = {name: layer_of(module, name).weight.detach().double().clone() for name in names}
    logs = [torch.zeros(group.count, dtype=torch.float64) for group in groups]
    for _ in range(ROUNDS):
        change = 0.0
        for index, (group, pull) in enumerate(zip(groups, pulls, strict=True)):
            rows = torch.stack([row_ranges(weights[name]) for name in group.producers]).amax(0)
            columns = torch.stack([column_ranges(weights[name], group.count) for name in group.consumers]).amax(0)
            activations = seen[index].double() / logs[index].exp() if index in seen else None
            found = logs[index] + balanced(rows, activations, columns, pull).log()
            found = found.clamp(-math.log(LARGEST), math.log(LARGEST))
            step = (found - logs[index]).exp()
            logs[index] = found
            for name in group.producers:
                weights[name] = _rows_scaled(weights[name], 1 / step)
            for name in group.consumers:
                weights[name] = _columns_scaled(weights[name], step)
            change = max(change, float(step.log().abs().max()))
        if change < SETTLED:
            break
    return [log.exp() for log in logs]


def rescale(module: torch.nn.Module, group: Channels, scales: torch.Tensor) -> None:
    """Divide the rows and biases that write a group's channels by scales [C], and multiply the columns that read them, in place."""
    import torch

    with torch.no_grad():
        for name in group.producers:
            layer = layer_of(module, name)
            layer.weight.copy_(_rows_scaled(layer.weight.double(), 1 / scales))
            if layer.bias is not None:
                layer.bias.copy_(layer.bias.double() / scales)
        for name in group.consumers:
            layer = layer_of(module, name)
            layer.weight.copy_(_columns_scaled(layer.weight.double(), scales))


def row_ranges(weight: torch.Tensor) -> torch.Tensor:
    """Largest absolute weight of each output channel [O] of weights [O, I, ...]."""
    return weight.abs().flatten(1).amax(1)


def column_ranges(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Largest absolute weight that reads each of the input channels of weights [O, I / groups, ...]."""
    return _columns(weight, channels).abs().amax((1, 3)).flatten()


def _rows_scaled(weight: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return weight * scales.reshape(-1, *[1] * (weight.ndim - 1))


def _columns_scaled(weight: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    columns = _columns(weight, len(scales))
    return (columns * scales.reshape(columns.shape[0], 1, columns.shape[2], 1)).reshape(weight.shape)


def _columns(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """View weights [O, I / groups, ...] as [groups, O / groups, channels / groups, entries that read one channel]."""
    groups = max(1, channels // weight.shape[1])
    return weight.reshape(groups, len(weight) // groups, channels // groups, -1)
