from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.algorithms.fake_quantization import on_grid, tensor_rounder, weight_rounder
from edgekit.algorithms.ranges import INT8_SYMMETRIC, UINT8

VALUES = torch.linspace(-3, 5, 401)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.0, 4.0), (-2.5, 0.0), (-0.3, 7.0)])
def test_activations_round_as_the_grid_of_the_range_says(low: float, high: float) -> None:
    rounder = tensor_rounder(symmetric=False)
    rounder.set_range(low, high)
    assert np.allclose(rounder(VALUES).detach().numpy(), UINT8.rounded(VALUES.numpy(), low, high), atol=1e-6)
    assert rounder.range()[1] - rounder.range()[0] == pytest.approx(high - low)
    assert torch.allclose(rounder(torch.tensor([0.0, *rounder.range()])), torch.tensor([0.0, *rounder.range()]), atol=1e-6)


def test_a_symmetric_grid_has_zero_in_the_middle() -> None:
    rounder = tensor_rounder(symmetric=True)
    rounder.set_range(-1.0, 2.0)
    assert rounder.range() == pytest.approx((-2.0, 2.0))
    assert np.allclose(rounder(VALUES).detach().numpy(), INT8_SYMMETRIC.rounded(VALUES.numpy(), -2, 2), atol=1e-6)


def test_an_empty_range_and_an_inactive_rounder_round_nothing() -> None:
    rounder = tensor_rounder(symmetric=False)
    assert torch.equal(rounder(VALUES), VALUES)
    rounder.set_range(0.0, 1.0)
    rounder.active = False
    assert torch.equal(rounder(VALUES), VALUES)


def test_gradients_pass_rounding_and_stop_where_values_are_clipped() -> None:
    rounder = tensor_rounder(symmetric=False)
    rounder.set_range(-1.0, 2.0)
    values = VALUES.clone().requires_grad_()
    rounder(values).sum().backward()
    step = 3 / 255
    inside = (rounder.range()[0] - step / 2 < VALUES) & (rounder.range()[1] + step / 2 > VALUES)
    assert torch.equal(values.grad, inside.float())


@pytest.mark.parametrize(("start", "values", "least", "most"), [(2.0, 8.0, 7.9, 12.0), (8.0, 0.1, 0.05, 1.0)], ids=["grows", "shrinks"])
def test_a_range_grows_if_clipping_costs_and_shrinks_if_rounding_costs(start: float, values: float, least: float, most: float) -> None:
    rounder = tensor_rounder(symmetric=False)
    rounder.set_range(0.0, start)
    optimizer = torch.optim.Adam(rounder.parameters(), lr=0.05)
    spread = torch.linspace(0, values, 2000)
    for _ in range(300):
        optimizer.zero_grad()
        ((rounder(spread) - spread) ** 2).sum().backward()
        optimizer.step()
    assert least < rounder.range()[1] < most


def test_the_gradient_of_the_ends_is_that_of_the_definition() -> None:
    rounder = tensor_rounder(symmetric=False)
    rounder.set_range(0.0, 2.0)
    values = torch.tensor([0.5, 3.0, 4.0])
    rounder(values).sum().backward()
    rounded = round(0.5 / (2 / 255)) * (2 / 255)
    by_high = 2 + (rounded - 0.5) / 2  # two clipped values follow the end, the third its step
    assert rounder.growth.grad[1] == pytest.approx(by_high * 2 / np.sqrt(3 * 255), rel=1e-4)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
def test_weights_lie_on_the_grid_that_their_largest_magnitude_spans(bits: int, per_channel: bool) -> None:
    weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.1, 5.0, 0.0]).reshape(4, 1, 1, 1)
    most = 2 ** (bits - 1) - 1
    rounded = on_grid(weight, most, per_channel=per_channel)
    largest = weight.abs().amax((1, 2, 3), keepdim=True) if per_channel else weight.abs().max()
    integers = rounded / (largest / most).clamp_min(1e-30)
    assert torch.allclose(integers, integers.round(), atol=1e-4)
    assert torch.allclose(rounded.abs().amax((1, 2, 3), keepdim=True) if per_channel else rounded.abs().max(), largest)
    assert torch.allclose(on_grid(rounded, most, per_channel=per_channel), rounded, atol=1e-7)
    assert (rounded - weight).abs().max() <= (largest / most).max() / 2 + 1e-6
    weight.requires_grad_()
    weight_rounder(most, per_channel=per_channel)(weight).sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))
