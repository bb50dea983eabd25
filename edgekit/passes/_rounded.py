"""The network that quantization-aware training trains: the module's graph with rounders where int8 kernels round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from edgekit.algorithms import activations
from edgekit.algorithms.fake_quantization import on_grid, tensor_rounder, weight_rounder
from edgekit.algorithms.layers import operator
from edgekit.algorithms.ranges import INT8_SYMMETRIC, UINT8, Histogram, best_range
from edgekit.algorithms.recognition import signature
from edgekit.algorithms.rounding_points import Point, insert_rounders, points_of, weights_of
from edgekit.core.errors import RecipeError
from edgekit.core.modules import arguments, tensors
from edgekit.core.quantization import Trained, TrainedRange
from edgekit.passes._deployed import captured

if TYPE_CHECKING:
    import torch

    from edgekit.algorithms.activations import Function
    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Context

BATCH = 16


@dataclass(frozen=True)
class Grids:
    """What tensors are rounded to.

    Attributes:
        granularity: one scale a channel of the weights, or one a tensor.
        weight_bits: bits of a weight.
        symmetric: whether the zero point of activations is in the middle.
    """

    granularity: str
    weight_bits: int
    symmetric: bool

    @property
    def most(self) -> int:
        """Largest integer of a weight."""
        return int(2 ** (self.weight_bits - 1)) - 1

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """Put weights on their grid."""
        return on_grid(weight, self.most, per_channel=self.granularity == "channel")


@dataclass(frozen=True)
class Rounded:
    """A module's graph with rounders; the module and the graph share their parameters.

    Attributes:
        graph: what is trained.
        points: tensors that are rounded.
        rounders: rounders of tensors by the name of their range.
        weights: names of the parameters that are rounded.
        grids: what they are rounded to.
    """

    graph: torch.fx.GraphModule
    points: tuple[Point, ...]
    rounders: dict[str, Any]
    weights: tuple[str, ...]
    grids: Grids


def rounded(module: torch.nn.Module, grids: Grids, context: Context) -> Rounded:
    """Capture a module's graph, batch norms folded, and put rounders into it.

    Raises:
        RecipeError: the graph can't be captured.
    """
    import torch

    graph = captured(module, context, any_batch=True).module(check_guards=False)
    points, weights = points_of(graph, module), weights_of(graph)
    if not weights:
        raise RecipeError("this model has no convolution or linear layer to quantize", hint="leave qat out")
    graph = torch.fx.GraphModule(graph, graph.graph)
    rounders = insert_rounders(
        graph,
        points,
        list(weights.values()),
        partial(tensor_rounder, symmetric=grids.symmetric),
        partial(weight_rounder, grids.most, per_channel=grids.granularity == "channel"),
    )
    return Rounded(graph, tuple(points), rounders, tuple(weights), grids)


def as_trained(module: torch.nn.Module, plan: Any, context: Context) -> Rounded:
    """Return the rounded network that a trained module came from, to compare quantized models with.

    Args:
        module: as the pass left it.
        plan: as it ended.
        context: holds an example.
    """
    net = rounded(module, Grids(**plan["grids"]), context)
    for found in Trained.model_validate(plan["metadata"]["trained"]).ranges:
        if found.name in net.rounders:
            net.rounders[found.name].set_range(found.low, found.high)
    return net


def calibrate(net: Rounded, data: DataSet, samples: int, context: Context) -> None:
    """Let the rounders of tensors start from the ranges with the least squared error on some samples.

    The range is judged after an activation function that follows; outputs of the network keep all their values.
    """
    histograms = {point.range: Histogram() for point in net.points}
    order = arguments(net.graph, list(context.example))
    total = min(samples, len(data))
    done = 0
    with _watched(net, lambda point, values: histograms[point.range].add(values.numpy())):
        for inputs, labels in data.batches(BATCH, limit=samples):
            _call(net, order, tensors(inputs, order))
            done += len(labels)
            context.progress.advance(done, total)
    grid = INT8_SYMMETRIC if net.grids.symmetric else UINT8
    for point in net.points:
        if point.range == point.name:
            seen = histograms[point.name]
            net.rounders[point.name].set_range(*((seen.low, seen.high) if _ends(point) else best_range(seen, grid, _following(point))))


def settle(net: Rounded) -> None:
    """Put the trained weights on their grids, in place, so that any quantizer finds the integers that were trained."""
    import torch

    with torch.no_grad():
        for name in net.weights:
            weight = net.graph.get_parameter(name)
            weight.copy_(net.grids.rounded(weight))


def learned(net: Rounded, context: Context) -> Trained:
    """Tell the trained ranges, each with what its tensor holds on the example while nothing but weights is rounded."""
    signatures: dict[str, Any] = {}
    order = arguments(net.graph, list(context.example))
    with _watched(net, lambda point, values: signatures.update({point.name: signature(values.numpy())})):
        _call(net, order, tensors({name: array[:1] for name, array in context.example.items()}, order))
    ranges = []
    for point in net.points:
        low, high = net.rounders[point.range].range()
        if low < high:
            ranges.append(TrainedRange(name=point.name, low=low, high=high, signature=signatures[point.name]))
    return Trained.model_validate(
        {"granularity": net.grids.granularity, "weight_bits": net.grids.weight_bits, "ranges": [r.model_dump() for r in ranges]}
    )


def _call(net: Rounded, order: list[str], given: tuple[torch.Tensor, ...]) -> None:
    import torch

    with torch.no_grad():
        if len(order) == 1:
            net.graph(*given)
        else:
            net.graph(**dict(zip(order, given, strict=True)))


@contextmanager
def _watched(net: Rounded, see: Callable[[Point, torch.Tensor], None]) -> Iterator[None]:
    """Let activations through unrounded and show them, point by point."""
    waiting: dict[str, list[Point]] = {}
    handles = []

    def restart(*_: Any) -> None:
        waiting.clear()
        for point in net.points:
            waiting.setdefault(point.range, []).append(point)

    def shown(name: str) -> Any:
        return lambda rounder, inputs: see(waiting[name].pop(0), inputs[0].detach())

    handles.append(net.graph.register_forward_pre_hook(restart))
    for name, rounder in net.rounders.items():
        rounder.active = False
        handles.append(rounder.register_forward_pre_hook(shown(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for rounder in net.rounders.values():
            rounder.active = True


def _ends(point: Point) -> bool:
    """Whether a tensor is an output of the network."""
    readers = [reader for rounder in point.node.users for reader in rounder.users]
    return any(reader.op == "output" for reader in readers)


def _following(point: Point) -> Function | None:
    """The activation function through which alone a tensor is read."""
    readers = [reader for rounder in point.node.users for reader in rounder.users]
    if len(readers) != 1:
        return None
    name, slope = operator(readers[0]), readers[0].args[1] if len(readers[0].args) > 1 else 0.01
    known: dict[str, Function] = {
        "leaky_relu": activations.leaky_relu(slope if isinstance(slope, float) else 0.01),
        "hardswish": activations.hard_swish,
        "hardsigmoid": activations.hard_sigmoid(1 / 6, 0.5),
        "sigmoid": activations.sigmoid,
        "gelu": activations.gelu,
    }
    return known.get(name)
