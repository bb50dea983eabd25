from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.algorithms.grids import Granularity, WeightGrid
from edgekit.algorithms.int4 import to_grid

GRIDS = [(bits, granularity) for bits in (4, 8) for granularity in ("channel", "tensor", "group")]


def matrix() -> torch.Tensor:
    return torch.randn(6, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.arange(1, 7)[:, None]


@pytest.mark.parametrize(("bits", "top"), [(4, 7), (8, 127)])
def test_the_largest_weight_lies_at_the_end(bits: int, top: int) -> None:
    integers = WeightGrid(bits).nearest(matrix()) / WeightGrid(bits).scales(matrix())
    assert torch.equal(integers.abs().amax(1).round(), torch.full((6,), float(top), dtype=torch.float64))


@pytest.mark.parametrize(("bits", "granularity"), GRIDS)
def test_what_lies_on_a_grid_comes_back_from_it(bits: int, granularity: Granularity) -> None:
    grid = WeightGrid(bits, granularity)
    once = grid.nearest(matrix()).float()
    torch.testing.assert_close(grid.nearest(once), once, rtol=3e-7, atol=0)
    assert torch.equal((once / grid.scales(once)).round(), (matrix() / grid.scales(matrix())).round().clamp(-grid.top, grid.top).float())


@pytest.mark.parametrize(("granularity", "scales"), [("channel", 6), ("tensor", 1), ("group", 12)])
def test_scales_are_shared_as_said(granularity: Granularity, scales: int) -> None:
    assert len(torch.unique(WeightGrid(8, granularity).scales(matrix()))) == scales


def test_a_block_of_zeros_stays_zero() -> None:
    zeros = torch.zeros(2, 8)
    assert torch.equal(WeightGrid(8).nearest(zeros), zeros)


@pytest.mark.parametrize(("granularity", "group"), [("channel", None), ("group", 32)])
def test_the_formats_int4_finds_the_same_points(granularity: Granularity, group: int | None) -> None:
    rounded = WeightGrid(4, granularity).nearest(matrix()).float().numpy()
    np.testing.assert_array_equal(to_grid(rounded, group).weights(), rounded)
