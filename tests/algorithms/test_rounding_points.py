from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.algorithms.fake_quantization import tensor_rounder, weight_rounder
from edgekit.algorithms.rounding_points import insert_rounders, points_of, weights_of


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        y = self.body(x)
        y += x
        y = self.pool(nn.functional.relu(y))
        return self.head(y.mean((2, 3)))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.after = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(8, 2, 1)
        self.leaky, self.average, self.swish = nn.LeakyReLU(0.1), nn.AvgPool2d(2), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.leaky(self.left(x)), self.swish(self.right(x))], 1)
        return self.after(self.average(joined))


def graph_of(module: nn.Module) -> Any:
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(module.eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: batch},)).module(check_guards=False)


def test_tensors_are_rounded_after_relu_and_around_sums() -> None:
    module = Residual()
    points = points_of(graph_of(module), module)
    assert [point.name for point in points] == ["x", "relu", "body.1", "body.2", "relu_2", "mean", "head"]
    assert all(point.range == point.name for point in points)


def test_a_layer_is_rounded_before_an_activation_that_is_no_clipping() -> None:
    module = Branches()
    names = [point.name for point in points_of(graph_of(module), module)]
    assert names == ["x", "left", "leaky", "right", "swish", "average", "after"]


def test_concatenation_and_averaging_share_one_range() -> None:
    module = Branches()
    ranges = {point.name: point.range for point in points_of(graph_of(module), module)}
    assert ranges["leaky"] == ranges["swish"] == ranges["average"]
    assert ranges["left"] == "left"
    assert ranges["after"] == "after"


def test_weights_are_those_of_layers() -> None:
    assert list(weights_of(graph_of(Residual()))) == ["stem.weight", "body.0.weight", "body.2.weight", "head.weight"]


@pytest.mark.parametrize("kind", [Residual, Branches])
def test_rounders_stand_behind_every_point_and_weight_and_share_the_modules_parameters(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = kind()
    graph = graph_of(module)
    points, weights = points_of(graph, module), weights_of(graph)
    x = torch.randn(5, 3, 8, 8)
    wanted = module(x)
    rounders = insert_rounders(
        graph, points, list(weights.values()), lambda: tensor_rounder(symmetric=False), lambda: weight_rounder(127, per_channel=True)
    )
    assert set(rounders) == {point.range for point in points}
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert sum(str(target).startswith("tensor_rounder") for target in calls) == len(points)
    assert sum(str(target).startswith("weight_rounder") for target in calls) == len(weights)
    found = graph(x)
    assert not torch.equal(found, wanted)
    assert torch.allclose(found, wanted, atol=0.02)
    for rounder in rounders.values():
        rounder.set_range(0.0, 1e-6)
    assert graph(x).abs().max() < 1e-3 * wanted.abs().max() or kind is Residual
    assert graph.get_parameter(next(iter(weights))) is module.get_parameter(next(iter(weights)))
