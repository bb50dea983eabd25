"""Which layers to keep in float: as many as the accuracy needs, and further ones where float is faster than switching to and fro.

Layers are left out noisiest first, so how many is all that remains to be found, by doubling and halving. Latency is another matter: an
integer layer between float ones pays for two conversions. So the few assignments around the one that accuracy asks for are listed, to be
raced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise

FURTHER = (1, 2, 4)
"""How many layers more than needed are tried in float."""
MOST_GROUPS = 8
"""Groups of layers that are tried in float."""
WIDEST_GAP = 2
"""Integer layers in a row between float ones that are tried in float."""


@dataclass(frozen=True)
class Node:
    """A layer of a graph.

    Attributes:
        name: of the layer.
        inputs: names of the values it reads.
        outputs: names of the values it makes.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def fewest(most: int, holds: Callable[[int], bool]) -> int | None:
    """Return the smallest count from 1 to ``most`` that holds, or None where not even ``most`` does.

    Asks for few small counts: 1, 2, 4, ... until one holds, then halves the gap below it. What holds for a count is taken to hold for
    larger ones.
    """
    if most < 1:
        return None
    missed, found = 0, 1
    while found < most and not holds(found):
        missed, found = found, min(2 * found, most)
    if found >= most and not holds(most):
        return None
    while found - missed > 1:
        middle = (missed + found) // 2
        missed, found = (missed, middle) if holds(middle) else (middle, found)
    return found


def worth_racing(layers: Sequence[str], order: Sequence[str], count: int) -> list[frozenset[str]]:
    """Assignments that hold at least what the first ``count`` layers in float hold, and that may be faster; the fewest in float first.

    Args:
        layers: in the order of the graph.
        order: the same, those that should be in float first.
        count: how many must be.

    Returns:
        Sets of layers in float: those needed, a few more of the order, gaps between them filled, and their neighbours added. At least one
        layer is always left out.
    """
    needed = frozenset(order[:count])
    found = [needed, *(frozenset(order[: count + more]) for more in FURTHER), *grown(layers, needed)]
    return sorted(dict.fromkeys(kept for kept in found if len(kept) < len(layers)), key=len)


def grown(layers: Sequence[str], kept: frozenset[str]) -> list[frozenset[str]]:
    """Sets of layers in float that a set can grow to where it stands: its gaps filled, its neighbours added; never all layers.

    Args:
        layers: in the order of the graph.
        kept: those in float.
    """
    wide = _widened(layers, kept)
    found = dict.fromkeys((_filled(layers, kept), wide, _filled(layers, wide)))
    return [larger for larger in found if kept < larger and len(larger) < len(layers)]


def alike(layers: Sequence[str]) -> list[frozenset[str]]:
    """Layers that do the same in each block, told by names that differ in numbers only; the largest groups, and never all layers.

    Args:
        layers: names in the order of the graph, such as ``encoder.layer.3.attention.query``.
    """
    groups: dict[str, set[str]] = {}
    for layer in layers:
        groups.setdefault(re.sub(r"\d+", "#", layer), set()).add(layer)
    found = [frozenset(group) for group in groups.values() if len(group) < len(layers)]
    return sorted(found, key=len, reverse=True)[:MOST_GROUPS]


def together(layers: Sequence[str], groups: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """The first two groups together, the first three, and so on; never all layers."""
    sums = accumulate(groups, lambda one, other: one | other)
    return [kept for kept in islice(sums, 1, None) if len(kept) < len(layers)]


def stranded(nodes: Sequence[Node], integer: Collection[str], weighted: Collection[str], floats: Collection[str]) -> set[str]:
    """Integer layers without weights that no longer stand between integer layers, if some layers become float.

    Quantizing what comes from a float layer, or only goes to float layers, costs a conversion and adds noise for nothing.

    Args:
        nodes: the graph in execution order; what it reads and nobody makes is as good as integer, and so is what nobody reads.
        integer: names of all layers that would be integer.
        weighted: those among them that compute with weights.
        floats: those among them that become float.
    """
    before = _between(nodes, set(integer), set(weighted))
    return before - _between(nodes, set(integer) - set(floats), set(weighted)) - set(floats)


def _between(nodes: Sequence[Node], integer: set[str], weighted: set[str]) -> set[str]:
    """Layers without weights that read at least one integer layer and are read by at least one."""
    makers = {value: node.name for node in nodes for value in node.outputs}
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node.name)
    left = integer - weighted
    while True:
        whole = left | (integer & weighted)
        fits = {
            node.name
            for node in nodes
            if node.name in left
            and any(makers.get(value) is None or makers[value] in whole for value in node.inputs)
            and _serves(node.outputs, readers, whole)
        }
        if fits == left:
            return left
        left = fits


def _serves(outputs: Iterable[str], readers: Mapping[str, Sequence[str]], integer: Collection[str]) -> bool:
    return any(value not in readers or any(name in integer for name in readers[value]) for value in outputs)


def _filled(layers: Sequence[str], kept: frozenset[str]) -> frozenset[str]:
    """Add the short runs of layers that stand between kept ones."""
    places = [index for index, layer in enumerate(layers) if layer in kept]
    gaps = [range(low + 1, high) for low, high in pairwise(places) if high - low - 1 <= WIDEST_GAP]
    return kept | {layers[index] for gap in gaps for index in gap}


def _widened(layers: Sequence[str], kept: frozenset[str]) -> frozenset[str]:
    """Add the layer before and the layer after each kept one."""
    beside = {place + step for place, layer in enumerate(layers) if layer in kept for step in (-1, 1)}
    return kept | {layers[place] for place in beside if 0 <= place < len(layers)}
