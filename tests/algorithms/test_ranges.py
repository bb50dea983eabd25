from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgekit.algorithms import activations
from edgekit.algorithms.ranges import BINS, INT8, INT8_SYMMETRIC, UINT8, Grid, Histogram, best_range, thinned

RNG = np.random.default_rng(0)
SHAPES = {
    "normal": RNG.normal(size=4000),
    "long tails": RNG.standard_t(2, size=4000),
    "long tail above": np.maximum(RNG.standard_t(2, size=4000), 0),
    "shifted": RNG.gamma(1, size=4000) - 0.5,
    "below zero": -RNG.gamma(1, size=4000),
    "flat": RNG.uniform(-1, 3, size=4000),
}
FUNCTIONS = {"nothing": None, "leaky": activations.leaky_relu(0.1), "hard swish": activations.hard_swish}


def counted(values: np.ndarray, parts: int = 1) -> Histogram:
    histogram = Histogram()
    for part in np.array_split(np.asarray(values, dtype=np.float32), parts):
        histogram.add(part)
    return histogram


def error(values: np.ndarray, low: float, high: float, grid: Grid, function: activations.Function | None) -> float:
    rounded = grid.rounded(values, low, high)
    return float(((function(rounded) - function(values) if function else rounded - values) ** 2).sum())


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("grid", [UINT8, INT8_SYMMETRIC], ids=["uint8", "symmetric"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_range_of_a_brute_search_is_better(shape: str, grid: Grid, function: str) -> None:
    values = SHAPES[shape].astype(np.float32).astype(np.float64)
    low, high = best_range(counted(values), grid, FUNCTIONS[function])
    bottom, top = min(values.min(), 0), max(values.max(), 0)
    shares = np.geomspace(1, 1 / 32, 24)
    pairs = [(s, s) for s in shares] if grid.symmetric else list(product(shares, shares))
    best = min(error(values, a * bottom, b * top, grid, FUNCTIONS[function]) for a, b in pairs)
    assert bottom <= low <= 0 <= high <= top
    assert error(values, low, high, grid, FUNCTIONS[function]) <= 1.03 * best  # steps that happen to meet many of a few values


@pytest.mark.parametrize(("bits", "laplace", "normal"), [(2, 2.83, 1.71), (3, 3.89, 2.15), (4, 5.03, 2.55)])
def test_clipping_of_known_distributions_is_that_of_the_literature(bits: int, laplace: float, normal: float) -> None:
    """Banner et al. 2019: best clipping of a Laplace distribution with b = 1 and of a standard normal one."""
    steps = 2**bits
    grid = Grid(-steps // 2, steps // 2, symmetric=True)  # as many steps, for theirs lie between the levels
    draw = np.random.default_rng(1)
    for values, expected in ((draw.laplace(size=400_000), laplace), (draw.normal(size=400_000), normal)):
        assert best_range(counted(values), grid)[1] == pytest.approx(expected, rel=0.12)


def test_few_large_values_are_clipped_and_the_others_rounded_finely() -> None:
    values = np.concatenate([RNG.normal(size=1_000_000), [40.0]])
    low, high = best_range(counted(values), UINT8)
    assert -6 < low < -3
    assert high < 30
    assert error(values, low, high, UINT8, None) < 0.6 * error(values, float(values.min()), 40.0, UINT8, None)


def test_what_an_activation_shrinks_needs_no_range() -> None:
    values = RNG.normal(size=100_000)
    assert best_range(counted(values), UINT8, activations.clip(0, np.inf))[0] > -0.1
    assert -3.6 < best_range(counted(values), UINT8, activations.leaky_relu(0.1))[0] < -2
    assert best_range(counted(values), UINT8)[0] < -3.6
    assert best_range(counted(values * 5), UINT8, activations.clip(0, 6))[1] == pytest.approx(6, rel=0.03)


def test_bins_do_not_depend_on_order_or_parts() -> None:
    values = np.concatenate([RNG.normal(size=1000) * 1e-6, RNG.normal(size=1000), RNG.normal(size=10) * 1e5])
    reference = counted(values)
    for parts, order in ((7, slice(None)), (2010, slice(None, None, -1))):
        other = counted(values[order], parts)
        assert all(np.array_equal(a, b) for a, b in zip(reference.points, other.points, strict=True))
        assert (other.low, other.high) == (reference.low, reference.high)


def test_bins_hold_every_value_within_half_a_width_and_are_few() -> None:
    values = SHAPES["long tails"].astype(np.float32)
    centres, counts = counted(values, 5).points
    width = float(np.gcd.reduce(np.rint(np.diff(centres) * 2**20).astype(np.int64))) / 2**20
    nearest = np.abs(values[:, None] - centres).min(axis=1)
    assert nearest.max() <= width / 2
    assert counts.sum() == len(values)
    assert BINS / 2 <= (values.max() - values.min()) / width <= BINS


def test_zeros_are_counted_apart_and_what_is_not_finite_not_at_all() -> None:
    histogram = counted(np.array([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 2.0]))
    assert histogram.zeros == 2
    assert (histogram.low, histogram.high) == (0.0, 2.0)
    assert list(histogram.points[1]) == [1.0, 1.0]


def test_a_tensor_of_zeros_or_of_nothing_has_an_empty_range() -> None:
    assert best_range(counted(np.zeros(10)), UINT8) == (0.0, 0.0)
    assert best_range(counted(np.zeros(0)), INT8) == (0.0, 0.0)
    assert list(UINT8.rounded(np.array([1.0]), 0.0, 0.0)) == [0.0]


def test_ends_are_those_of_all_values_even_if_only_a_part_is_counted() -> None:
    histogram = Histogram()
    histogram.add(np.array([-9.0, 1.0, 2.0, 9.0], dtype=np.float32), np.array([1.0, 2.0], dtype=np.float32))
    assert (histogram.low, histogram.high) == (-9.0, 9.0)
    assert histogram.points[1].sum() == 2


@pytest.mark.parametrize("shape", [(4, 16, 16), (1, 3, 224, 224), (7,), (1000, 100)])
def test_thinned_values_touch_every_row_and_column(shape: tuple[int, ...]) -> None:
    limit = 500
    for axis in range(len(shape)):
        index = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)
        part = thinned(np.ascontiguousarray(index), limit)
        assert len(np.unique(part)) >= min(shape[axis], 300)
        assert len(part) <= 2 * limit or part.size == np.prod(shape)


def test_grids_represent_zero_exactly_and_clip_at_the_ends() -> None:
    for grid in (UINT8, INT8, INT8_SYMMETRIC):
        rounded = grid.rounded(np.array([0.0, 100.0, -100.0]), -1.0, 3.0)
        assert rounded[0] == 0
        assert rounded[1] == pytest.approx(3, abs=0.01)
        assert rounded[2] == pytest.approx(-3 if grid.symmetric else -1, abs=0.01)
