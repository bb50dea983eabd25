"""Where the tensors of a captured graph become integers when ONNX Runtime, OpenVINO or LiteRT run it in int8, and rounders put there.

What the three have in common decides: a layer's output is rounded after the activation function that its kernel clips by, not before
it; the inputs of sums are rounded; what only moves values hands them on as they are; pooling and concatenation keep one scale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.algorithms.layers import CONVOLUTIONS, operator

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule, Node

WEIGHTED = CONVOLUTIONS | {"linear"}
CLIPPING = frozenset({"relu", "relu6", "hardtanh", "clamp", "clamp_min"})
"""Activation functions that are nothing but the range of the layer before them."""
COMPUTING = (
    WEIGHTED
    | CLIPPING
    | {"add", "sub", "mul", "mean", "batch_norm", "leaky_relu", "prelu", "elu", "silu", "hardswish", "hardsigmoid", "sigmoid", "gelu"}
    | {f"adaptive_avg_pool{n}d" for n in (1, 2, 3)}
)
AVERAGING = frozenset(f"avg_pool{n}d" for n in (1, 2, 3))
"""Operators whose output is rounded with the scale of their input."""
JOINING = frozenset({"cat", "concat", "concatenate"})
MOVING = (
    frozenset({"alias", "clone", "contiguous", "dropout", "flatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose"})
    | {"slice", "select", "pad", "constant_pad_nd", "expand", "chunk", "split", "getitem", "upsample_nearest2d"}
    | {f"max_pool{n}d" for n in (1, 2, 3)}
)
"""Operators whose output is on the grid of their input."""


@dataclass(frozen=True)
class Point:
    """A tensor that is rounded.

    Attributes:
        name: the module that computes it, with the operator where a module computes several.
        node: where the graph computes it.
        range: name of the point whose range it has; most have their own.
    """

    name: str
    node: Node
    range: str


def weights_of(graph: GraphModule) -> dict[str, Node]:
    """Weights of convolutions and linear layers, by parameter name, with the node that fetches them."""
    found = {}
    for node in graph.graph.nodes:
        if operator(node) in WEIGHTED and node.args[1].op == "get_attr":
            found[str(node.args[1].target)] = node.args[1]
    return found


def points_of(graph: GraphModule, module: torch.nn.Module) -> list[Point]:
    """Find the tensors that are rounded, in the order of the graph.

    Args:
        graph: captured from the module, batch norms folded.
        module: tells whose the tensors are.
    """
    names: dict[Node, str] = {}
    ranges: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for node in graph.graph.nodes:
        if operator(node) in JOINING:
            _tie([names[source] for source in _sources(node) if source in names], ranges)
        if not _is_rounded(node):
            continue
        name = _name(node, module)
        seen[name] += 1
        names[node] = name if seen[name] == 1 else f"{name}_{seen[name]}"
        ranges[names[node]] = names[node]
        if operator(node) in AVERAGING:
            _tie([*(names[source] for source in _sources(node) if source in names), names[node]], ranges)
    return [Point(name, node, _root(name, ranges)) for node, name in names.items()]


def insert_rounders(
    graph: GraphModule, points: Sequence[Point], weights: Sequence[Node], for_tensor: Callable[[], Any], for_weight: Callable[[], Any]
) -> dict[str, Any]:
    """Put rounders behind tensors and weights of a graph, in place; return those of tensors by the name of their range.

    Args:
        graph: is changed.
        points: tensors to round.
        weights: nodes that fetch weights to round.
        for_tensor: makes a rounder of activations; one for each range.
        for_weight: makes a rounder of weights.
    """
    made: dict[str, Any] = {}
    for point in points:
        if point.range not in made:
            made[point.range] = for_tensor()
            graph.add_submodule(f"tensor_rounder_{len(made)}", made[point.range])
    places = {name: f"tensor_rounder_{index}" for index, name in enumerate(made, start=1)}
    for point in points:
        _insert(graph, point.node, places[point.range])
    for index, node in enumerate(weights, start=1):
        graph.add_submodule(f"weight_rounder_{index}", for_weight())
        _insert(graph, node, f"weight_rounder_{index}")
    graph.recompile()
    return made


def _insert(graph: GraphModule, node: Node, target: str) -> None:
    readers = list(node.users)
    with graph.graph.inserting_after(node):
        rounded = graph.graph.call_module(target, (node,))
    for reader in readers:
        reader.replace_input_with(node, rounded)


def _is_rounded(node: Node) -> bool:
    if not _is_float(node) or not node.users:
        return False
    if node.op == "placeholder" or operator(node) in AVERAGING:
        return True
    if operator(node) in COMPUTING:
        readers = list(node.users)
        return not (len(readers) == 1 and operator(readers[0]) in CLIPPING)
    return node.op == "call_function" and operator(node) not in MOVING | JOINING and _feeds_layer(node)


def _feeds_layer(node: Node) -> bool:
    """Whether a layer reads a tensor as its input, moved or not."""
    for reader in node.users:
        if operator(reader) in WEIGHTED and reader.args[0] is node:
            return True
        if operator(reader) in MOVING and _feeds_layer(reader):
            return True
    return False


def _sources(node: Node) -> Iterator[Node]:
    """Nodes that compute what a node reads, through those that only move values."""
    for source in node.all_input_nodes:
        if operator(source) in MOVING | JOINING:
            yield from _sources(source)
        else:
            yield source


def _is_float(node: Node) -> bool:
    dtype = getattr(node.meta.get("val"), "dtype", None)
    return dtype is not None and bool(dtype.is_floating_point)


def _name(node: Node, module: torch.nn.Module) -> str:
    if node.op == "placeholder":
        return str(node.target)
    stack = list((node.meta.get("nn_module_stack") or {"": ("", None)}).values())
    path = str(stack[-1][0])
    if path and not any(True for _ in module.get_submodule(path).children()):
        return path
    return f"{path}/{operator(node)}".removeprefix("/")


def _tie(names: Sequence[str], ranges: dict[str, str]) -> None:
    for name in names[1:]:
        ranges[_root(name, ranges)] = _root(names[0], ranges)


def _root(name: str, ranges: dict[str, str]) -> str:
    while ranges[name] != name:
        name = ranges[name]
    return name
