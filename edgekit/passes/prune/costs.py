"""What a network costs with so many units left in each group: multiplications, parameters, or milliseconds in the target's runtime."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.passes.prune.groups import joined, layer_shapes
from edgekit.passes.prune.surgery import channels_of, perform_cut

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Batch
    from edgekit.core.bench import Bench
    from edgekit.passes.prune.groups import Group

Widths = Mapping[str, int]
"""Units left, by group."""


class Cost(ABC):
    """What is to become less."""

    @abstractmethod
    def of(self, widths: Widths) -> float:
        """Cost of the whole network."""


@dataclass(frozen=True)
class Layer:
    """What a layer costs as it is, and which groups its sides belong to: the share of the channels that one unit takes, by group."""

    name: str
    cost: float
    sides: tuple[dict[str, float], ...]
    sizes: Mapping[str, int]

    def left(self, widths: Widths) -> float:
        """Cost with so many units left."""
        cost = self.cost
        for side in self.sides:
            cost *= 1.0 - sum(share * (self.sizes[group] - widths[group]) for group, share in side.items())
        return cost


class Counted(Cost):
    """A cost that is a sum over layers, each in proportion to the channels of its sides."""

    def __init__(self, layers: Sequence[Layer], groups: Sequence[Group]) -> None:
        self._layers = layers
        self._blocks = {group.name: group.block for group in groups if group.block}

    def of(self, widths: Widths) -> float:
        """Sum over the layers that are left."""
        gone = tuple(f"{block}." for name, block in self._blocks.items() if widths[name] == 0)
        return sum(layer.left(widths) for layer in self._layers if not (gone and layer.name.startswith(gone)))


def counted(kind: str, module: torch.nn.Module, groups: Sequence[Group], example: Batch) -> Counted:
    """Make the cost of a kind: ``macs`` of convolutions and linear layers for one sample, or ``parameters``."""
    costs = _macs(module, example) if kind == "macs" else _parameters(module)
    sizes = {group.name: group.size for group in groups}
    sides: dict[tuple[str, str], dict[str, float]] = {}
    for group in groups:
        for member in group.members:
            total = channels_of(module.get_submodule(member.layer), member.side)
            sides.setdefault((member.layer, member.side), {})[group.name] = len(member.indices[0]) / total
    layers = [Layer(name, cost, tuple(sides.get((name, s), {}) for s in ("in", "out")), sizes) for name, cost in costs.items()]
    return Counted(layers, groups)


def _macs(module: torch.nn.Module, example: Batch) -> dict[str, float]:
    import torch
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    def places(layer: torch.nn.Module, given: list[int], result: list[int]) -> int:
        shape = given[1:] if isinstance(layer, _ConvTransposeNd) else result[:-1] if isinstance(layer, torch.nn.Linear) else result[1:]
        return int(np.prod(shape, dtype=np.int64))

    found = {}
    for name, calls in layer_shapes(module, example).items():
        layer = module.get_submodule(name)
        if isinstance(layer, (_ConvNd, torch.nn.Linear)):
            found[name] = float(layer.weight.numel() * sum(places(layer, *shapes) for shapes in calls))
    return found


def _parameters(module: torch.nn.Module) -> dict[str, float]:
    return {
        name: float(sum(p.numel() for p in part.parameters(recurse=False)))
        for name, part in module.named_modules()
        if next(part.parameters(recurse=False), None) is not None
    }


@dataclass(frozen=True)
class Table(Cost):
    """Latency by measurement: what the network takes whole, and with all groups of one kind at some widths.

    Groups of a kind are measured together inside the network, as the runtime will fuse and lay them out; a single layer would mostly
    time the runtime's call. That kinds don't influence each other is assumed here and checked when the result is measured.

    Attributes:
        whole: milliseconds of the network as it is.
        points: by kind: units left in each of its groups, with the milliseconds that one group then saves.
        kinds: kind of each group.
    """

    whole: float
    points: dict[str, dict[int, float]]
    kinds: dict[str, str]

    def of(self, widths: Widths) -> float:
        """Milliseconds, interpolated between the measured widths."""
        saved = 0.0
        for name, width in widths.items():
            measured = sorted(self.points[self.kinds[name]].items())
            saved += float(np.interp(width, [w for w, _ in measured], [ms for _, ms in measured]))
        return self.whole - saved

    def record(self) -> dict[str, Any]:
        """Return it as plain data: the milliseconds that one group of a kind saves, by units left."""
        names = {kind: sorted(name for name, own in self.kinds.items() if own == kind) for kind in self.points}
        kinds = [
            {"groups": names[kind], "saves_ms": {str(w): round(ms, 6) for w, ms in sorted(points.items())}}
            for kind, points in sorted(self.points.items(), key=lambda item: names[item[0]])
        ]
        return {"whole_ms": round(self.whole, 6), "kinds": kinds}


def measured(module: torch.nn.Module, groups: Sequence[Group], levels: Mapping[str, Sequence[int]], bench: Bench, example: Batch) -> Table:
    """Measure the table: each kind of group at each of its levels, all in one race.

    Args:
        module: the network as it is.
        groups: its groups.
        levels: for each group the numbers of units that may be left, the full size among them.
        bench: times modules in the target's runtime.
        example: one sample.
    """
    kinds: dict[str, list[Group]] = {}
    for group in groups:
        kinds.setdefault(group.kind, []).append(group)
    variants: list[tuple[str, int]] = []
    modules = [copy.deepcopy(module)]
    for kind, members in kinds.items():
        for level in levels[members[0].name]:
            if level < members[0].size:
                variants.append((kind, level))
                cut = joined([group.cut(range(level, group.size)) for group in members])
                modules.append(perform_cut(copy.deepcopy(module), cut))
    whole, *times = bench.race(modules, example)
    points: dict[str, dict[int, float]] = {kind: {members[0].size: 0.0} for kind, members in kinds.items()}
    for (kind, level), time in zip(variants, times, strict=True):
        points[kind][level] = (whole - time) / len(kinds[kind])
    return Table(whole, points, {group.name: group.kind for group in groups})
