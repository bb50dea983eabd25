from __future__ import annotations

import pytest

from edgekit.algorithms.assignment import MOST_GROUPS, Node, alike, fewest, grown, stranded, together, worth_racing


@pytest.mark.parametrize("answer", [1, 2, 3, 7, 8, 30, 31])
def test_the_fewest_that_hold_are_found_with_few_questions(answer: int) -> None:
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count >= answer

    assert fewest(31, holds) == answer
    assert len(asked) == len(set(asked)) <= 10


def test_none_hold() -> None:
    assert fewest(5, lambda count: False) is None
    assert fewest(0, lambda count: True) is None


def test_assignments_around_the_needed_one_are_raced() -> None:
    layers = list("abcdefgh")
    order = list("bdhacefg")
    found = worth_racing(layers, order, 2)
    assert found[0] == frozenset("bd")
    assert frozenset("bcd") in found  # the gap filled
    assert frozenset("abcde") in found  # neighbours
    assert frozenset("bdh") in found
    assert all(frozenset("bd") <= kept < frozenset(layers) for kept in found)
    assert len(found) == len(set(found))
    assert [len(kept) for kept in found] == sorted(len(kept) for kept in found)


def test_a_set_grows_where_it_stands() -> None:
    layers = list("abcdefgh")
    assert grown(layers, frozenset("be")) == [frozenset("bcde"), frozenset("abcdef")]
    assert grown(layers, frozenset("bf")) == [frozenset("abcefg"), frozenset("abcdefg")]
    assert grown(layers, frozenset()) == []
    assert grown(layers, frozenset("abcdefg")) == []


def test_something_is_always_left_in_integers() -> None:
    assert worth_racing(["a", "b"], ["a", "b"], 1) == [frozenset("a")]


def test_layers_whose_names_differ_in_numbers_only_are_alike() -> None:
    blocks = [f"layer.{place}.{kind}" for place in range(12) for kind in ("query", "norm")]
    assert alike([*blocks, "head"]) == [frozenset(blocks[::2]), frozenset(blocks[1::2]), frozenset({"head"})]
    assert alike(["conv1", "conv2"]) == alike(["only"]) == []
    assert len(alike("abcdefghijklmnop")) == MOST_GROUPS


def test_groups_are_put_together_one_after_the_other() -> None:
    groups = [frozenset("ab"), frozenset("c"), frozenset("de")]
    assert together("abcdef", groups) == [frozenset("abc"), frozenset("abcde")]
    assert together("abcde", groups) == [frozenset("abc")]
    assert together("abc", groups[:1]) == together("abc", []) == []


CHAIN = [Node(name, (f"{place}",), (f"{place + 1}",)) for place, name in enumerate(["pad", "stem", "act", "body", "pool", "flat", "head"])]
NAMES = {node.name for node in CHAIN}
WEIGHTED = {"stem", "body", "head"}


@pytest.mark.parametrize(
    ("floats", "along"),
    [
        ((), set()),
        (("stem",), {"pad", "act"}),
        (("body",), {"act", "pool", "flat"}),
        (("head",), {"pool", "flat"}),
        (("stem", "body"), {"pad", "act", "pool", "flat"}),
    ],
)
def test_layers_beside_float_ones_are_stranded(floats: tuple[str, ...], along: set[str]) -> None:
    assert stranded(CHAIN, NAMES, WEIGHTED, floats) == along


def test_a_sum_stays_while_it_has_an_integer_layer_on_both_sides() -> None:
    nodes = [
        Node("left", ("x",), ("a",)),
        Node("right", ("x",), ("b",)),
        Node("sum", ("a", "b"), ("c",)),
        Node("head", ("c",), ("d",)),
    ]
    names, weighted = {"left", "right", "sum", "head"}, {"left", "right", "head"}
    assert stranded(nodes, names, weighted, ["left"]) == set()
    assert stranded(nodes, names, weighted, ["left", "right"]) == {"sum"}


def test_what_was_never_between_integers_is_not_stranded() -> None:
    nodes = [Node("stem", ("x",), ("a",)), Node("odd", ("a",), ("b",)), Node("act", ("b",), ("c",)), Node("head", ("c",), ("d",))]
    assert stranded(nodes, {"stem", "act", "head"}, {"stem", "head"}, ["head"]) == set()
