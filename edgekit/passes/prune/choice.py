"""Chooses how many units each group keeps: pure functions of scores and costs, without a network.

Reference: Shen et al. 2022, "Structural Pruning via Latency-Saliency Knapsack" (HALP, arXiv:2210.06659): what goes is what is missed
least for what it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import RecipeError

if TYPE_CHECKING:
    from edgekit.passes.prune.costs import Cost

_LEVELS = 8
_BISECTIONS = 40


def levels_of(size: int, multiple: int, *, least: int, may_vanish: bool) -> list[int]:
    """Numbers of units that a group may keep, ascending: multiples, at most eight of them, and all.

    Args:
        size: units of the group.
        multiple: what is left must be a multiple of it, or everything.
        least: fewest units that are left.
        may_vanish: whether nothing may be left, because a shortcut leads past it.
    """
    possible = [n for n in range(multiple, size, multiple) if n >= least]
    if len(possible) > _LEVELS:
        possible = [possible[i] for i in np.linspace(0, len(possible) - 1, _LEVELS).round().astype(int)]
    return [*([0] if may_vanish else []), *possible, size]


def by_worth(
    scores: Mapping[str, np.ndarray], levels: Mapping[str, Sequence[int]], blocks: Mapping[str, str | None], cost: Cost, aim: float
) -> dict[str, int]:
    """Narrow, step by step, the group whose next level loses the least importance for what it saves, until the cost is at most the aim.

    Args:
        scores: importance of each unit, by group.
        levels: units that may be left, ascending, by group.
        blocks: the block that goes when a group vanishes, by group; its other groups then need no narrowing.
        cost: what is to become less.
        aim: largest cost.

    Returns:
        Units left, by group.

    Raises:
        RecipeError: the aim can't be reached.
    """
    kept = {name: possible[-1] for name, possible in levels.items()}
    lost = {name: np.concatenate([[0.0], np.cumsum(np.sort(values))]) for name, values in scores.items()}
    now = cost.of(kept)
    gone: set[str] = set()
    while now > aim:
        best: tuple[float, dict[str, int], float] | None = None
        for name in (n for n in levels if blocks[n] not in gone):
            for level in (n for n in levels[name] if n < kept[name]):
                size = len(scores[name])
                beside = [other for other in levels if level == 0 and other != name and blocks[other] == blocks[name]]
                narrowed = {**kept, name: level, **{other: len(scores[other]) for other in beside}}
                then = cost.of(narrowed)
                if then >= now:
                    continue
                price = float(lost[name][size - level] - lost[name][size - kept[name]]) / (now - then)
                if best is None or price < best[0]:
                    best = price, narrowed, then
        if best is None:
            raise _out_of_reach(cost, levels, aim)
        _, kept, now = best
        gone = {block for name, block in blocks.items() if block is not None and kept[name] == 0}
    return kept


def evenly(levels: Mapping[str, Sequence[int]], cost: Cost, aim: float) -> dict[str, int]:
    """Keep the same share of every group, as large as the aim allows; no group vanishes.

    Args:
        levels: units that may be left, ascending, by group.
        cost: what is to become less.
        aim: largest cost.

    Raises:
        RecipeError: the aim can't be reached.
    """

    def at(share: float) -> dict[str, int]:
        return {name: min((n for n in possible if n > 0), key=lambda n: abs(n - share * possible[-1])) for name, possible in levels.items()}

    low, high = 0.0, 1.0
    if cost.of(at(high)) <= aim:
        return at(high)
    if cost.of(at(low)) > aim:
        raise _out_of_reach(cost, levels, aim)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost.of(at(middle)) <= aim else (low, middle)
    return at(low)


def least_important(scores: np.ndarray, kept: int) -> list[int]:
    """Indices of the units that go when so many are left; of equal ones the first go."""
    return sorted(int(i) for i in np.argsort(scores, kind="stable")[: len(scores) - kept])


def _out_of_reach(cost: Cost, levels: Mapping[str, Sequence[int]], aim: float) -> RecipeError:
    whole = cost.of({name: possible[-1] for name, possible in levels.items()})
    least = cost.of({name: possible[0] for name, possible in levels.items()})
    return RecipeError(
        f"pruning can't take the network to {aim / whole:.2f} of its cost; the least it can reach is {least / whole:.2f}",
        hint="aim lower, protect less, or allow a smaller round_to",
    )
