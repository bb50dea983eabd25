"""Decides one step of pruning: groups, scores, costs and choice put together, and the result counted or measured."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.core.errors import RecipeError, closest
from edgekit.core.schema import Schema
from edgekit.passes.prune.choice import by_worth, evenly, least_important, levels_of
from edgekit.passes.prune.costs import Cost, Table, counted, measured
from edgekit.passes.prune.groups import Group, find_groups, joined
from edgekit.passes.prune.scores import Importance, score
from edgekit.passes.prune.surgery import Cut, perform_cut

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Batch
    from edgekit.core.bench import Bench
    from edgekit.core.plugin import Context

Kind = Literal["macs", "parameters", "speedup"]
_ATTEMPTS = 4
_NEAR = 0.98
"""Share of the wanted speedup that counts as reached: two races differ by as much."""
_BEYOND = 1.08
"""Share of it beyond which less could go."""


@dataclass(frozen=True)
class Aim:
    """How much smaller or faster the network shall be: the share of ``macs`` or ``parameters`` that is kept, or a ``speedup``."""

    kind: Kind
    value: float

    def part(self, step: int, steps: int) -> Aim:
        """The aim of an intermediate step; in even steps of cost."""
        cost = 1 / self.value if self.kind == "speedup" else self.value
        reached = 1 - (1 - cost) * step / steps
        return Aim(self.kind, 1 / reached if self.kind == "speedup" else reached)


class How(Schema):
    """How channels are chosen."""

    importance: Importance = Field("taylor", description="What is missed most: magnitude, taylor (labels), batch_norm, activation.")
    scope: Literal["global", "uniform"] = Field("global", description="Narrow where it costs least, or every group by the same share.")
    round_to: int = Field(8, ge=1, description="Channels left are a multiple of it, so that the runtime's SIMD kernels stay full.")
    keep_at_least: float = Field(0.1, ge=0, le=1, description="Least share of its units that a group keeps, unless its block goes.")
    blocks: bool = Field(True, description="Whether whole residual blocks may go (scope: global).")
    protect: tuple[str, ...] = Field((), description="Layers whose channels stay; names or glob patterns.")
    samples: int = Field(1024, ge=1, description="Training samples that importance is judged on.")


@dataclass(frozen=True)
class Decision:
    """What goes in one step.

    Attributes:
        cut: layer by layer.
        kept: units left, by group, of how many.
        left_alone: layers whose channels stay, with the reason.
        costs: MACs of convolutions and linear layers, and parameters, before and after.
        latency: what the table promised and what was measured, in milliseconds; empty for other aims.
    """

    cut: Cut
    kept: dict[str, dict[str, Any]]
    left_alone: dict[str, str]
    costs: dict[str, dict[str, int]]
    latency: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "cut": self.cut.record(),
            "kept": self.kept,
            "left_alone": self.left_alone,
            "costs": self.costs,
            "latency": self.latency,
        }


def decide(module: torch.nn.Module, whole: torch.nn.Module, aim: Aim, how: How, context: Context) -> Decision:
    """Decide what goes from a network; touches nothing.

    Args:
        module: the network as it is.
        whole: the network before the first step, which the aim speaks of.
        aim: what is to be reached.
        how: options.
        context: example, samples, and the bench for a speedup.

    Raises:
        RecipeError: the aim can't be reached or measured, a pattern protects nothing, or the scores need data that is not there.
    """
    example = {name: array[:1] for name, array in context.example.items()}
    choice, left_alone = _choices(module, how, context, example)
    if aim.kind == "speedup":
        cut, kept, latency = _by_latency(module, whole, aim.value, choice, context.bench, example)
    else:
        cost = counted(aim.kind, module, choice.groups, example)
        kept = choice.chosen(cost, aim.value * counted(aim.kind, whole, [], example).of({}))
        cut, latency = choice.cut(kept), {}
    pruned = perform_cut(copy.deepcopy(module), cut)
    costs = {
        kind: {"before": round(counted(kind, whole, [], example).of({})), "after": round(counted(kind, pruned, [], example).of({}))}
        for kind in ("macs", "parameters")
    }
    told = {g.name: {"unit": g.unit, "of": g.size, "kept": kept[g.name], **({"block": g.block} if g.block else {})} for g in choice.groups}
    return Decision(cut, told, dict(sorted(left_alone.items())), costs, latency)


def _choices(module: torch.nn.Module, how: How, context: Context, example: Batch) -> tuple[_Choices, dict[str, str]]:
    """Find and score what may go; also tell what stays, and why."""
    found, left_alone = find_groups(module, example)
    protected = _protected(module, found, how.protect)
    scores = score(module, [group for group in found if group.name not in protected], how.importance, context, how.samples)
    groups = [group for group in found if group.name in scores]
    for group in found:
        if group.name not in scores:
            left_alone[group.name] = "protected" if group.name in protected else "it has no batch norm to judge it by"
    if not groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(left_alone.items())[:3])
        raise RecipeError(f"nothing in this network can be pruned ({reasons or 'it has no two layers in a row'})", hint="protect less")
    levels = {}
    for group in groups:
        least = max(1, round(group.size * how.keep_at_least))
        may_vanish = how.blocks and group.block is not None and how.scope == "global"
        levels[group.name] = levels_of(group.size, 1 if group.unit == "head" else how.round_to, least=least, may_vanish=may_vanish)
    return _Choices(groups, scores, levels, how.scope), left_alone


@dataclass(frozen=True)
class _Choices:
    """What there is to choose from."""

    groups: Sequence[Group]
    scores: Mapping[str, Any]
    levels: Mapping[str, Sequence[int]]
    scope: str

    def chosen(self, cost: Cost, aim: float) -> dict[str, int]:
        """Choose the units left in each group so that the cost is at most the aim."""
        if self.scope == "uniform":
            return evenly(self.levels, cost, aim)
        return by_worth(self.scores, self.levels, {g.name: g.block for g in self.groups}, cost, aim)

    def cut(self, kept: Mapping[str, int]) -> Cut:
        """Say what goes."""
        return joined([group.cut(least_important(self.scores[group.name], kept[group.name])) for group in self.groups])


def _by_latency(
    module: torch.nn.Module, whole: torch.nn.Module, speedup: float, choice: _Choices, bench: Bench | None, example: Batch
) -> tuple[Cut, dict[str, int], dict[str, Any]]:
    """Choose by a measured table, measure the result, and aim again where it falls short or goes too far."""
    if bench is None:
        raise RecipeError("a speedup can't be measured: none of the targets' runtimes runs here", hint="aim at macs instead: {macs: 0.5}")
    table = measured(module, choice.groups, choice.levels, bench, example)
    aim = _target(module, whole, table, speedup, bench, example)
    tried: list[_Attempt] = []
    while len(tried) < _ATTEMPTS:
        kept = choice.chosen(table, aim)
        cut = choice.cut(kept)
        before, now, after = bench.race([whole, module, perform_cut(copy.deepcopy(module), cut)], example)
        tried.append(_Attempt(cut, kept, before, now * table.of(kept) / table.whole, after))
        if _NEAR <= tried[-1].speedup / speedup <= _BEYOND or any(kept == other.kept for other in tried[:-1]):
            break
        aim = min(table.whole, aim * tried[-1].speedup / speedup)
    reached = [attempt for attempt in tried if attempt.speedup >= speedup * _NEAR]
    best = min(reached, key=lambda attempt: attempt.speedup) if reached else max(tried, key=lambda attempt: attempt.speedup)
    told = {
        "wanted": speedup,
        "runtime": bench.circumstances["runtime"],
        "table": table.record(),
        "attempts": [attempt.record() for attempt in tried],
        "chosen": best.record(),
    }
    return best.cut, best.kept, told


@dataclass(frozen=True)
class _Attempt:
    """A choice by the table, and what became of it: milliseconds of the whole network, promised, and measured."""

    cut: Cut
    kept: dict[str, int]
    whole: float
    predicted: float
    measured: float

    @property
    def speedup(self) -> float:
        """Times faster, measured."""
        return self.whole / self.measured

    def record(self) -> dict[str, float]:
        """Return the times as plain data."""
        return {"whole_ms": round(self.whole, 6), "predicted_ms": round(self.predicted, 6), "measured_ms": round(self.measured, 6)}


def _target(module: torch.nn.Module, whole: torch.nn.Module, table: Table, speedup: float, bench: Bench, example: Batch) -> float:
    """Milliseconds on the table's scale that make the whole network so many times faster."""
    if module is whole:
        return table.whole / speedup
    before, now = bench.race([whole, module], example)
    return table.whole * (before / speedup) / now


def _protected(module: torch.nn.Module, groups: Sequence[Group], patterns: Sequence[str]) -> set[str]:
    """Names of groups that run through a protected layer's outgoing channels.

    Raises:
        RecipeError: a pattern matches no layer.
    """
    names = [name for name, part in module.named_modules() if name and next(part.parameters(), None) is not None]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise RecipeError(f"protect: {pattern!r} matches no layer", hint=closest(pattern, names))

    def held(layer: str) -> bool:
        parts = layer.split(".")
        return any(fnmatch(".".join(parts[:depth]), pattern) for depth in range(1, len(parts) + 1) for pattern in patterns)

    return {group.name for group in groups if any(held(member.layer) for member in group.sides("out"))}
