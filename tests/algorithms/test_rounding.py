from __future__ import annotations

import itertools

import pytest
import torch

from edgekit.algorithms.grids import Granularity, WeightGrid
from edgekit.algorithms.rounding import ON_POINT, Descent, Moments, Quadratic, adaptive, clipped

DESCENT = Descent(iterations=400, learning_rate=0.05, regularization=0.1)


def correlated(groups: int, width: int, count: int = 400) -> torch.Tensor:
    """Samples [G, D, N] whose entries depend on each other, with a mean."""
    torch.manual_seed(0)
    return torch.randn(groups, width, width) @ torch.randn(groups, width, count) + 2


def problem(groups: int = 1, outputs: int = 6, width: int = 24) -> tuple[torch.Tensor, torch.Tensor, Moments]:
    """Weights [O, D], what they read, and its moments."""
    x = correlated(groups, width)
    weights = torch.randn(groups, outputs, width)
    moments = Moments.empty(groups, width, outputs)
    for part in x.split(100, dim=2):
        moments.add(part, weights @ part)
    return weights.flatten(0, 1).double(), x.double(), moments


def mean_error(weights: torch.Tensor, rounded: torch.Tensor, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    groups = len(x)
    difference = (rounded - weights).reshape(groups, -1, x.shape[1]) @ x
    if bias is not None:
        difference = difference + bias[:, :, None]
    return (difference**2).mean(2)


@pytest.mark.parametrize("groups", [1, 3])
def test_the_quadratic_is_the_error_on_all_samples(groups: int) -> None:
    weights, x, moments = problem(groups)
    rounded = WeightGrid(4).nearest(weights)
    found = moments.quadratic(biased=False).errors(rounded.reshape(groups, 6, 24))
    torch.testing.assert_close(found, mean_error(weights, rounded, x), rtol=1e-4, atol=1e-4)


def test_with_a_bias_the_mean_error_is_zero_and_the_rest_is_what_counts() -> None:
    weights, x, moments = problem()
    rounded = WeightGrid(4).nearest(weights)
    quadratic = moments.quadratic(biased=True)
    bias = quadratic.bias(rounded.reshape(1, 6, 24))
    difference = ((rounded - weights) @ x[0]).mean(1) + bias[0]
    torch.testing.assert_close(difference, torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-4)
    wanted = mean_error(weights, rounded, x, bias)
    torch.testing.assert_close(quadratic.errors(rounded.reshape(1, 6, 24)), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
def test_it_beats_nearest_rounding_and_moves_no_weight_further_than_its_neighbours(bits: int, granularity: Granularity) -> None:
    weights, x, moments = problem()
    grid = WeightGrid(bits, granularity, group=8)
    rounded = adaptive(weights, moments.quadratic(biased=False), grid, DESCENT)
    nearest = grid.nearest(weights)
    assert mean_error(weights, rounded, x).sum() < 0.6 * mean_error(weights, nearest, x).sum()
    assert (mean_error(weights, rounded, x) <= mean_error(weights, nearest, x) * 1.001).all()
    position, found = (weights / grid.scales(weights)).clamp(-grid.top, grid.top), rounded / grid.scales(weights)
    torch.testing.assert_close(found, found.round(), rtol=0, atol=1e-9)
    assert (found.round() - position).abs().max() < 1


def test_the_grid_stays_the_same() -> None:
    weights, _, moments = problem()
    for grid in (WeightGrid(4), WeightGrid(8), WeightGrid(8, "tensor")):
        rounded = adaptive(weights, moments.quadratic(biased=False), grid, DESCENT)
        torch.testing.assert_close(grid.scales(rounded), grid.scales(weights), rtol=1e-9, atol=0)


def test_it_finds_the_best_of_all_roundings_of_most_outputs() -> None:
    weights, x, moments = problem(outputs=4, width=9)
    grid = WeightGrid(4)
    scales = grid.scales(weights)
    position = (weights / scales).clamp(-7, 7)
    on_point = (position - position.round()).abs() < ON_POINT
    floor, ceil = torch.where(on_point, position.round(), position.floor()), torch.where(on_point, position.round(), position.ceil())
    ups = torch.tensor(list(itertools.product((False, True), repeat=9)))
    roundings = [torch.where(ups, ceil[o], floor[o]) * scales[o] for o in range(4)]
    best = torch.stack([mean_error(weights[[o]], roundings[o][:, None], x)[0].min() for o in range(4)])
    found = mean_error(weights, adaptive(weights, moments.quadratic(biased=False), grid, DESCENT), x)[0]
    nearest = mean_error(weights, grid.nearest(weights), x)[0]
    assert (found < best * 1.001).sum() >= 3
    assert found.sum() - best.sum() < 0.4 * (nearest.sum() - best.sum())


def test_a_few_large_weights_are_clipped_where_the_others_matter_more() -> None:
    torch.manual_seed(0)
    weights = torch.randn(1, 512).double()
    weights[0, 0] = 8.0
    assert 3 < float(clipped(weights, plain(weights), WeightGrid(4)).abs().max()) < 7
    signs = weights.sign()
    assert torch.equal(clipped(signs, plain(signs), WeightGrid(4)), signs)


def plain(weights: torch.Tensor) -> Quadratic:
    """The error of weights [1, D] where nothing that is read depends on anything else."""
    width = weights.shape[1]
    none = torch.zeros(1, width, dtype=torch.float64)
    eye = torch.eye(width, dtype=torch.float64)[None]
    return Quadratic(eye, weights[None], (weights**2).sum()[None, None], none, none[:, :1])
