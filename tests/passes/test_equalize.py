from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgekit.algorithms.equalization import rescale
from edgekit.algorithms.layers import Channels
from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Context
from edgekit.passes.equalize import Equalize


@pytest.fixture
def network() -> nn.Module:
    """A separable network whose channels have very different ranges."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    for index in (1, 4):
        net[index].weight.data = torch.exp(2 * torch.randn(8))
        net[index].running_mean.normal_()
        net[index].running_var.uniform_(0.5, 2)
    return net.eval()


def digits(context: Context) -> Tensor:
    assert context.calibration is not None
    return torch.from_numpy(next(context.calibration.batches(32))[0]["input"])


def absolute_ranges(module: nn.Module, layer: int, x: Tensor) -> Tensor:
    """Largest absolute value of each channel that a layer reads."""
    return module[:layer](x).abs().amax((0, 2, 3))  # type: ignore[index]


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_outputs_stay_the_same(network: nn.Module, context: Context, granularity: str) -> None:
    x = digits(context)
    before = network(x)
    work = Equalize(granularity=granularity)  # type: ignore[arg-type]
    after = work.perform(network, json.loads(json.dumps(work.plan(network, context))), context).module(x)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_activations_before_a_depthwise_layer_become_equal(network: nn.Module, context: Context) -> None:
    x = digits(context)
    before = absolute_ranges(network, 3, x)
    work = Equalize(samples=32)
    after = absolute_ranges(work.perform(copy.deepcopy(network), work.plan(network, context), context).module, 3, x)
    assert before.max() / before.min() > 10
    assert after.max() / after.min() < 1.1


def noise(module: nn.Module, x: Tensor) -> float:
    """Mean squared error at the outputs with weights rounded to one 8-bit grid a tensor."""
    rounded = copy.deepcopy(module)
    for layer in rounded.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            scale = layer.weight.data.abs().max() / 127
            layer.weight.data = (layer.weight.data / scale).round() * scale
    return float(((rounded(x) - module(x)) ** 2).mean().detach())


def test_scales_that_make_a_tensor_wide_grid_useless_are_taken_back(network: nn.Module, context: Context) -> None:
    nothing_seen = replace(context, calibration=None)
    work = Equalize(granularity="tensor", activations=0)
    even = work.perform(network, work.plan(network, nothing_seen), context).module
    wild = copy.deepcopy(even)
    for layer, reader in ((0, 3), (3, 6)):
        rescale(wild, Channels(8, (str(layer),), (str(reader),)), torch.exp(2 * torch.randn(8, dtype=torch.float64)))
    found = work.perform(copy.deepcopy(wild), work.plan(wild, nothing_seen), context).module
    x = digits(context)
    assert noise(wild, x) > 5 * noise(even, x)
    assert noise(found, x) == pytest.approx(noise(even, x), rel=0.05)


def test_without_samples_activations_can_not_count(network: nn.Module, context: Context) -> None:
    with pytest.raises(RecipeError, match="calibration"):
        Equalize().plan(network, replace(context, calibration=None))


def test_a_model_without_scalable_channels_is_told(context: Context) -> None:
    with pytest.raises(RecipeError, match="no two layers"):
        Equalize().plan(nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 10)), context)


def test_a_model_that_decides_by_its_inputs_is_told(context: Context) -> None:
    class Fickle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(RecipeError, match="can't be captured"):
        Equalize().plan(Fickle(), context)
