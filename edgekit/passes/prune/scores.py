"""Scores the units of groups: gathers weights, gradients and activations for the arithmetic of :mod:`edgekit.algorithms.importance`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgekit.algorithms import importance
from edgekit.core.errors import RecipeError
from edgekit.passes._engine import predictions
from edgekit.passes._objectives import task_of
from edgekit.passes._statistics import BATCH, input_power, samples_of
from edgekit.passes.prune.surgery import channel_axis, mixes_channels

if TYPE_CHECKING:
    import torch

    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Context
    from edgekit.passes.prune.groups import Group, Member

Importance = Literal["magnitude", "taylor", "batch_norm", "activation"]


def score(module: torch.nn.Module, groups: Sequence[Group], kind: Importance, context: Context, samples: int) -> dict[str, np.ndarray]:
    """Score every unit of every group; a group without batch norm has no ``batch_norm`` score and is left out.

    All kinds but Taylor's are brought to a mean of one in each group: sizes in one layer say nothing about sizes in another.

    Args:
        module: in evaluation mode; it is not changed.
        groups: what is scored.
        kind: how.
        context: gives the samples.
        samples: how many to read.

    Raises:
        RecipeError: Taylor's score without labels, or no data at all.
    """
    if kind == "taylor":
        return _by_taylor(module, groups, context, samples)
    if kind == "activation":
        found = _by_activation(module, groups, samples_of(context), samples)
    elif kind == "batch_norm":
        found = _by_batch_norm(module, groups)
    else:
        found = {group.name: importance.group_norm(_weights(module, group.members)) for group in groups}
    return {name: (values / values.mean().clamp_min(1e-30)).numpy() for name, values in found.items()}


def units(layer: torch.nn.Module, member: Member, value: torch.Tensor) -> torch.Tensor:
    """Rearrange a tensor shaped like a layer's weight to [U, K, ...]: unit, channel of the unit, whatever belongs to a channel."""
    import torch

    indices = torch.tensor(member.indices)
    by_channel = value.detach().movedim(channel_axis(layer, member.side) or 0, 0)
    return by_channel[indices.flatten()].reshape(*indices.shape, *by_channel.shape[1:])


def _weights(module: torch.nn.Module, members: Sequence[Member]) -> list[torch.Tensor]:
    """Weights [U, K, ...] of the layers that mix channels."""
    layers: list[tuple[Any, Member]] = [(module.get_submodule(member.layer), member) for member in members]
    return [units(layer, member, layer.weight) for layer, member in layers if mixes_channels(layer)]


def _by_batch_norm(module: torch.nn.Module, groups: Sequence[Group]) -> dict[str, torch.Tensor]:
    import torch

    found = {}
    for group in groups:
        layers = [(module.get_submodule(m.layer), m) for m in group.members]
        norms = [(part, m) for part, m in layers if isinstance(part, torch.nn.modules.batchnorm._NormBase) and part.affine]
        if norms:
            found[group.name] = importance.batch_norm_scale([units(part, m, part.weight) for part, m in norms])
    return found


def _by_taylor(module: torch.nn.Module, groups: Sequence[Group], context: Context, samples: int) -> dict[str, np.ndarray]:
    import torch

    scored = copy.deepcopy(module).eval().requires_grad_(False)
    readers: dict[str, Any] = {m.layer: scored.get_submodule(m.layer) for group in groups for m in group.sides("in")}
    for layer in readers.values():
        layer.weight.requires_grad_(True)
    task = task_of(context)
    total = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in groups}
    batches = 0
    for arrays, labels in samples_of(context).batches(BATCH, limit=samples):
        if labels[0] is None:
            raise RecipeError("importance by Taylor's formula needs labels", hint="use importance: activation, or a labelled training set")
        scored.zero_grad()
        with torch.enable_grad():
            loss: Any = task.loss(predictions(scored, {name: torch.from_numpy(array) for name, array in arrays.items()}), labels)
            loss.backward()
        for group in groups:
            pairs = [(readers[m.layer], m) for m in group.sides("in")]
            weights = [units(layer, m, layer.weight) for layer, m in pairs]
            gradients = [units(layer, m, layer.weight.grad) for layer, m in pairs]
            total[group.name] += importance.taylor(weights, gradients)
        batches += 1
    return {name: (values / batches).numpy() for name, values in total.items()}


def _by_activation(module: torch.nn.Module, groups: Sequence[Group], data: DataSet, samples: int) -> dict[str, torch.Tensor]:
    readers = sorted({m.layer for group in groups for m in group.sides("in")})
    power = input_power(module, readers, data, samples)
    found = {}
    for group in groups:
        members = group.sides("in")
        powers = [power[m.layer][np.array(m.indices)] for m in members]
        found[group.name] = importance.contribution(_weights(module, members), powers)
    return found
