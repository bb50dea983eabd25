"""The choice of widths, on costs and scores of which the best answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import RecipeError
from edgekit.passes.prune.choice import by_worth, evenly, least_important, levels_of
from edgekit.passes.prune.costs import Cost, Counted, Layer, Table


class Steps(Cost):
    """A cost that falls only at some widths, as SIMD kernels make it fall."""

    def __init__(self, points: dict[str, dict[int, float]]) -> None:
        self.points = points

    def of(self, widths: dict[str, int]) -> float:
        return sum(self.points[name][width] for name, width in widths.items())


def test_levels_are_multiples_and_everything() -> None:
    assert levels_of(32, 8, least=1, may_vanish=False) == [8, 16, 24, 32]
    assert levels_of(20, 8, least=9, may_vanish=True) == [0, 16, 20]
    assert levels_of(6, 8, least=1, may_vanish=False) == [6]


def test_many_levels_are_thinned_out_to_eight_beside_the_whole() -> None:
    found = levels_of(512, 8, least=1, may_vanish=False)
    assert len(found) == 9
    assert (found[0], found[-2], found[-1]) == (8, 504, 512)


def test_what_is_missed_least_for_its_cost_goes_first() -> None:
    scores = {"cheap": np.array([1.0, 1.0]), "dear": np.array([1.0, 1.0])}
    cost = Steps({"cheap": {1: 9.0, 2: 10.0}, "dear": {1: 50.0, 2: 90.0}})
    levels = {"cheap": [1, 2], "dear": [1, 2]}
    blocks = {"cheap": None, "dear": None}
    assert by_worth(scores, levels, blocks, cost, 70) == {"cheap": 2, "dear": 1}
    assert by_worth(scores, levels, blocks, cost, 59) == {"cheap": 1, "dear": 1}


def test_a_level_that_saves_nothing_is_jumped_over() -> None:
    scores = {"a": np.array([1.0, 1.0, 1.0])}
    cost = Steps({"a": {1: 5.0, 2: 10.0, 3: 10.0}})
    assert by_worth(scores, {"a": [1, 2, 3]}, {"a": None}, cost, 6) == {"a": 1}


def test_when_a_block_goes_its_other_groups_stay_whole() -> None:
    scores = {"one": np.array([0.1, 0.1]), "two": np.array([9.0, 9.0]), "else": np.array([1.0, 1.0])}
    levels = {"one": [0, 1, 2], "two": [0, 1, 2], "else": [1, 2]}
    cost = Steps({"one": {0: 0.0, 1: 5.0, 2: 6.0}, "two": {0: 0.0, 1: 3.0, 2: 4.0}, "else": {1: 3.0, 2: 4.0}})
    assert by_worth(scores, levels, {"one": "block", "two": "block", "else": None}, cost, 8) == {"one": 0, "two": 2, "else": 2}


def test_an_aim_out_of_reach_says_how_far_it_goes() -> None:
    cost = Steps({"a": {1: 6.0, 2: 10.0}})
    with pytest.raises(RecipeError, match=r"0\.50 of its cost; the least it can reach is 0\.60"):
        by_worth({"a": np.ones(2)}, {"a": [1, 2]}, {"a": None}, cost, 5)
    with pytest.raises(RecipeError, match=r"0\.60"):
        evenly({"a": [1, 2]}, cost, 5)


def test_evenly_takes_the_same_share_everywhere_and_no_more_than_needed() -> None:
    cost = Steps({name: {w: float(w) for w in range(65)} for name in ("a", "b")})
    assert evenly({"a": [8, 16, 24, 32], "b": [0, 16, 32, 48, 64]}, cost, 50) == {"a": 16, "b": 32}


def test_the_lowest_scores_go() -> None:
    assert least_important(np.array([3.0, 1.0, 2.0, 1.0]), 2) == [1, 3]


def test_counted_costs_multiply_sides_and_skip_gone_blocks() -> None:
    layers = [
        Layer("block.conv1", 100.0, ({}, {"g": 1 / 8}), {"g": 8}),
        Layer("block.conv2", 100.0, ({"g": 1 / 8}, {}), {"g": 8}),
        Layer("fc", 7.0, ({}, {}), {"g": 8}),
    ]

    class Blocked:
        name, block = "g", "block"

    cost = Counted(layers, [Blocked()])
    assert [cost.of({"g": width}) for width in (8, 4, 0)] == [207.0, 107.0, 7.0]


def test_table_adds_up_groups_and_interpolates() -> None:
    table = Table(10.0, {"k": {0: 4.0, 8: 1.0, 16: 0.0}}, {"a": "k", "b": "k"})
    assert table.of({"a": 16, "b": 16}) == 10.0
    assert table.of({"a": 0, "b": 12}) == 10.0 - 4.0 - 0.5
    assert table.record() == {"whole_ms": 10.0, "kinds": [{"groups": ["a", "b"], "saves_ms": {"0": 4.0, "8": 1.0, "16": 0.0}}]}
