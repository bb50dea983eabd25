from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms.grid_descent import descend
from edgekit.algorithms.int4 import Grid, to_grid

RNG = np.random.default_rng(0)
WANTED = RNG.normal(size=(12, 72)).astype(np.float32)
INPUTS = RNG.normal(size=(400, 72)) @ RNG.normal(size=(72, 72)) * np.linspace(0.1, 2, 72)
CURVATURE = INPUTS.T @ INPUTS


def error(grid: Grid) -> float:
    difference = grid.weights().astype(np.float64) - WANTED
    return float(((difference @ CURVATURE) * difference).sum())


@pytest.mark.parametrize("symmetric", [True, False])
def test_each_round_makes_the_outputs_error_smaller(symmetric: bool) -> None:
    start = to_grid(WANTED, 32, symmetric=symmetric)
    errors = [error(descend(start, WANTED, CURVATURE, rounds)) for rounds in range(4)]
    assert errors[0] == pytest.approx(error(start))
    assert errors[0] > errors[1] > errors[2] >= errors[3]
    assert errors[3] < 0.5 * errors[0]


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_result_is_on_a_grid_that_is_stored_without_loss(symmetric: bool) -> None:
    found = descend(to_grid(WANTED, 32, symmetric=symmetric), WANTED, CURVATURE, 3)
    assert found.integers.min() >= (-8 if symmetric else 0)
    assert found.integers.max() <= (7 if symmetric else 15)
    np.testing.assert_array_equal(found.scales.astype(np.float16).astype(np.float32), found.scales)
    np.testing.assert_array_equal(to_grid(found.weights(), 32, symmetric=symmetric).weights(), found.weights())


def test_columns_that_meet_no_activation_are_left_alone() -> None:
    curvature = CURVATURE.copy()
    curvature[5] = curvature[:, 5] = 0
    start = to_grid(WANTED, 32)
    np.testing.assert_array_equal(descend(start, WANTED, curvature, 1).integers[:, 5], start.integers[:, 5])
