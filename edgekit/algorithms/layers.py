"""Which layers follow each other in a captured graph, for algorithms that move something from one layer's weights to the next one's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import torch
    from torch.fx import Node

CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
HOMOGENEOUS = frozenset({"relu", "leaky_relu", "prelu", "dropout", "alias", "clone", "contiguous", "pad"})
"""Operators that act on each value alone, or add zeros, with f(s x) = s f(x) for every s > 0."""
POOLING = frozenset(f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for n in (1, 2, 3))
RESHAPING = frozenset({"flatten", "view", "reshape", "squeeze"})


@dataclass(frozen=True)
class Call:
    """Where the graph calls a layer with weights.

    Attributes:
        layer: dotted name of the convolution or linear layer.
        node: the call.
    """

    layer: str
    node: Node

    @property
    def source(self) -> Node:
        """What the layer reads."""
        node: Node = self.node.all_input_nodes[0]
        return node

    @property
    def channel_axis(self) -> int:
        """Axis of the channels that the layer writes."""
        return _channel_axis(self.node, self.node)


@dataclass(frozen=True)
class Channels:
    """Tensors whose channels can only be scaled together, and the layers around them.

    Attributes:
        count: channels.
        producers: layers that write them: output channels of their weights.
        consumers: layers that read them: input channels of their weights, in blocks where a flattened picture is read.
    """

    count: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


def calls(program: torch.export.ExportedProgram, module: torch.nn.Module) -> list[Call]:
    """Find the layers whose weights and bias are their own and used once, in the order of the graph."""
    from torch import nn

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    names = program.graph_signature.inputs_to_parameters
    owners = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    found = []
    for node in program.graph.nodes:
        if operator(node) not in CONVOLUTIONS | {"linear"}:
            continue
        weight = node.args[1]
        layer, _, kind = names.get(weight.name, "").rpartition(".")
        owner = module.get_submodule(layer)
        own = all(owners[id(parameter)] == 1 for parameter in owner.parameters(recurse=False))
        if kind == "weight" and isinstance(owner, kinds) and len(weight.users) == 1 and own:
            found.append(Call(layer, node))
    return found


def layer_of(module: torch.nn.Module, name: str) -> torch.nn.Conv2d:
    """A convolution or linear layer by its dotted name; all that is used of it both have."""
    return cast("torch.nn.Conv2d", module.get_submodule(name))


def is_linear(layer: torch.nn.Module) -> bool:
    """Whether a layer is linear, so that channels come last in what it reads and gives, instead of after the samples."""
    from torch import nn

    return isinstance(layer, nn.Linear)


def operator(node: Node) -> str:
    """Name of the operator that a node calls, without namespace, overload and the underscore of in-place ones; empty for other nodes."""
    if node.op != "call_function":
        return ""
    parts = str(node.target).split(".")
    return parts[1].rstrip("_") if parts[0] == "aten" and len(parts) > 1 else ""


def channel_groups(program: torch.export.ExportedProgram, module: torch.nn.Module) -> list[Channels]:
    """Find the channels that may be scaled where they are written, if the inverse is done where they are read.

    Channels are tied through operators that are positively homogeneous, and through sums; every other operator, and the inputs and
    outputs of the model, hold them as they are.
    """
    layers = {call.node: call.layer for call in calls(program, module)}
    tied = _Tied()
    for node in program.graph.nodes:
        if node in layers:
            tied.read(node.all_input_nodes[0], layers[node], _channel_axis(node, node.all_input_nodes[0]))
            tied.write(node, layers[node], _channel_axis(node, node))
        elif not _passes(node, tied):
            for tensor in (node, *node.all_input_nodes):
                tied.hold(tensor)
    return list(tied.groups())


def _channel_axis(call: Node, tensor: Node) -> int:
    """Axis that a layer takes for the channels of what it reads or writes."""
    return 1 if operator(call) in CONVOLUTIONS else len(_shape(tensor)) - 1


def _passes(node: Node, tied: _Tied) -> bool:
    """Tie a node's output to its inputs if it acts on each channel alone; return whether it does."""
    name = operator(node)
    if name == "add":
        return len(node.args) > 1 and all(_same(node, value) for value in node.args[:2]) and tied.tie(node, *node.all_input_nodes)
    if name not in HOMOGENEOUS | POOLING | RESHAPING | {"mean"}:
        return False
    source = node.all_input_nodes[0]
    axis = tied.axis(source)
    before, after = _shape(source), _shape(node)
    if name in POOLING or name == "mean":
        return axis == 1 and len(after) > 1 and before[:2] == after[:2] and tied.tie(node, source)
    if name == "pad":
        return before[: axis + 1] == after[: axis + 1] and not (node.args[3] if len(node.args) > 3 else 0) and tied.tie(node, source)
    if name not in RESHAPING or before == after:
        return tied.tie(node, source)
    if axis != 1 or len(after) < 2 or before[0] != after[0]:
        return False
    return (before[1] == after[1] or after == (before[0], math.prod(before[1:]))) and tied.tie(node, source)


def _same(node: Node, value: object) -> bool:
    from torch.fx import Node

    return isinstance(value, Node) and _shape(value) == _shape(node)


def _shape(node: Node) -> tuple[int, ...]:
    import torch

    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


class _Tied:
    """Tensors tied into groups, by union and find; each knows where its channels lie."""

    def __init__(self) -> None:
        self._parent: dict[Node, Node] = {}
        self._axis: dict[Node, int] = {}
        self._count: dict[Node, int] = {}
        self._held: set[Node] = set()
        self._written: dict[Node, list[str]] = {}
        self._read: dict[Node, list[str]] = {}

    def write(self, node: Node, layer: str, axis: int) -> None:
        """Note the output of a layer, whose channels lie on an axis."""
        self._axis[node], self._count[node] = axis, _shape(node)[axis]
        self._written[node] = [layer]

    def read(self, node: Node, layer: str, axis: int) -> None:
        """Note that a layer reads a tensor and takes an axis for its channels; what reads another one holds it."""
        self._read.setdefault(node, []).append(layer)
        if self.axis(node) != axis:
            self.hold(node)

    def hold(self, node: Node) -> None:
        """Keep a tensor as it is."""
        self._held.add(node)

    def axis(self, node: Node) -> int:
        """Axis of a tensor's channels."""
        return self._axis.get(node, 1)

    def tie(self, node: Node, *sources: Node) -> bool:
        """Put tensors into one group; return whether all of them have channels, on one axis."""
        if any(source not in self._axis for source in sources) or len({self._axis[source] for source in sources}) != 1:
            return False
        self._axis[node] = self._axis[sources[0]]
        root = self._root(sources[0])
        for other in (*sources[1:], node):
            self._parent[self._root(other)] = root
        return True

    def _root(self, node: Node) -> Node:
        while node in self._parent and self._parent[node] is not node:
            node = self._parent[node]
        return node

    def groups(self) -> Iterator[Channels]:
        """Yield the groups that nothing holds and that have layers on both sides."""
        held = {self._root(node) for node in self._held}
        members: dict[Node, list[Node]] = {}
        for node in self._axis:
            members.setdefault(self._root(node), []).append(node)
        for root, nodes in members.items():
            written = [layer for node in nodes for layer in self._written.get(node, ())]
            read = [layer for node in nodes for layer in self._read.get(node, ())]
            if root not in held and written and read:
                yield Channels(self._count[root], tuple(written), tuple(read))
