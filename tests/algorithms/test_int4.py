from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms.int4 import Grid, fits, pack, to_grid, unpack

RNG = np.random.default_rng(0)
WEIGHTS = (RNG.normal(size=(24, 172)) * 0.1).astype(np.float32)
every_kind = pytest.mark.parametrize(("group", "symmetric"), [(32, True), (32, False), (None, True), (None, False), (16, True)])


@every_kind
def test_weights_are_rounded_to_the_nearest_point_of_their_groups_grid(group: int | None, symmetric: bool) -> None:
    grid = to_grid(WEIGHTS, group, symmetric=symmetric)
    assert grid.integers.min() >= (-8 if symmetric else 0)
    assert grid.integers.max() <= (7 if symmetric else 15)
    assert grid.scales.shape == (24, -(-172 // (group or 172)))
    inside = np.abs(grid.weights() - WEIGHTS) <= grid.spread(grid.scales) / 2 + 1e-6
    assert inside.mean() > 0.97, "only clipped weights are farther away than half a step"


@every_kind
def test_what_lies_on_a_grid_is_found_again_bit_for_bit(group: int | None, symmetric: bool) -> None:
    once = to_grid(WEIGHTS, group, symmetric=symmetric).weights()
    np.testing.assert_array_equal(to_grid(once, group, symmetric=symmetric).weights(), once)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("largest", range(1, 8))
def test_a_grid_that_is_not_used_to_its_ends_is_found_too(symmetric: bool, largest: int) -> None:
    scales = (RNG.random((40, 3)) * 0.1 + 0.01).astype(np.float16).astype(np.float32)
    integers = RNG.integers(-largest, largest + 1, (40, 96)).astype(np.int8)
    weights = Grid(integers, scales, None, 32).weights()
    found = to_grid(weights, 32, symmetric=symmetric)
    np.testing.assert_array_equal(found.weights(), weights)


def test_smaller_groups_have_smaller_errors_and_a_zero_point_helps_one_sided_weights() -> None:
    def error(weights: np.ndarray, group: int | None, symmetric: bool = True) -> float:
        return float(((to_grid(weights, group, symmetric=symmetric).weights() - weights) ** 2).mean())

    assert error(WEIGHTS, 16) < error(WEIGHTS, 64) < error(WEIGHTS, None)
    assert error(np.abs(WEIGHTS), 32, symmetric=False) < error(np.abs(WEIGHTS), 32) / 2


def test_important_columns_are_rounded_better_at_the_cost_of_others() -> None:
    importance = np.where(np.arange(172) % 8 == 0, 100.0, 1.0)
    plain, weighted = (to_grid(WEIGHTS, 32, importance=counts).weights() - WEIGHTS for counts in (None, importance))
    assert (weighted**2 * importance).sum() < (plain**2 * importance).sum()
    assert (weighted**2).sum() > (plain**2).sum()


def test_scales_are_exact_in_fp16_and_vanishing_weights_do_no_harm() -> None:
    grid = to_grid(np.concatenate([WEIGHTS, np.zeros((1, 172), np.float32), WEIGHTS[:1] * 1e-9]), 32)
    np.testing.assert_array_equal(grid.scales.astype(np.float16).astype(np.float32), grid.scales)
    np.testing.assert_array_equal(grid.weights()[-2:], 0)


def test_one_scale_for_all_is_shared_by_every_channel() -> None:
    grid = to_grid(WEIGHTS, shared=True)
    assert len(np.unique(grid.scales)) == 1
    assert grid.scales.shape == (24, 1)
    np.testing.assert_array_equal(to_grid(grid.weights(), shared=True).weights(), grid.weights())


def test_smaller_groups_can_say_the_same() -> None:
    for grid in (to_grid(WEIGHTS), to_grid(WEIGHTS, 64, symmetric=False)):
        np.testing.assert_array_equal(grid.regrouped(32).weights(), grid.weights())
        assert grid.regrouped(32).scales.shape == (24, 6)


@pytest.mark.parametrize("length", [6, 7])
def test_packing_puts_the_first_integer_into_the_lower_half(length: int) -> None:
    integers = np.array([[-8, 7, -1, 0, 3, -4, 5][:length]], np.int8)
    assert pack(integers)[0, 0] == 0x78
    np.testing.assert_array_equal(unpack(pack(integers), length, signed=True), integers)
    np.testing.assert_array_equal(unpack(pack(integers & 0xF), length, signed=False), integers & 0xF)


def test_weights_beyond_fp16_do_not_fit() -> None:
    assert fits(WEIGHTS)
    assert not fits(WEIGHTS * 1e7)
