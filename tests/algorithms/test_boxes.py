"""Boxes against the definitions, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms.boxes import corners, matched, overlaps, suppressed


def test_corners_lie_half_a_size_from_the_centre() -> None:
    np.testing.assert_allclose(corners(np.array([[0.5, 0.5, 0.2, 0.4]])), [[0.4, 0.3, 0.6, 0.7]])


def test_overlap_is_intersection_over_union() -> None:
    first = np.array([[0.0, 0, 2, 2], [0, 0, 1, 1], [3, 3, 3, 3]])
    second = np.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [3, 3, 3, 3]])
    np.testing.assert_allclose(overlaps(first, second), [[1 / 7, 1, 0], [0, 1 / 4, 0], [0, 0, 0]])


def test_suppression_keeps_the_surest_of_a_class_and_every_other_class() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [0, 0, 10, 4], [0, 0, 10, 4.0]])
    assert suppressed(boxes, np.array([0, 0, 1, 0, 0]), 0.45).tolist() == [0, 2, 3]
    assert suppressed(boxes[:0], np.zeros(0, int), 0.45).tolist() == []


def test_a_suppressed_box_suppresses_nothing() -> None:
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10.0]])  # each overlaps its neighbour by 6/14
    assert suppressed(boxes, np.zeros(3, int), 0.4).tolist() == [0, 2]


def test_each_true_box_is_found_once_by_the_surest() -> None:
    truth = np.array([[0, 0, 10, 10.0]])
    found = matched(np.array([[0, 0, 10, 9], [0, 0, 10, 10.0]]), np.array([0, 0]), truth, np.array([0]))
    assert found[0].tolist() == [True] * 9 + [False]  # right up to an overlap of 0.9
    assert found[1].tolist() == [False] * 9 + [True]  # the surer one took it below


def test_another_class_is_never_right() -> None:
    box = np.array([[0, 0, 1, 1.0]])
    assert not matched(box, np.array([1]), box, np.array([0])).any()
    assert matched(box, np.array([0]), box, np.array([0])).all()
    assert matched(box, np.array([0]), box[:0], np.zeros(0, int)).tolist() == [[False] * 10]


@pytest.mark.parametrize("nearer", [0, 1])
def test_a_box_takes_the_true_one_it_overlaps_most(nearer: int) -> None:
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 10.0]])
    truth[1 - nearer, 3] = 8
    found = matched(np.array([[0, 0, 10, 10], [0, 0, 10, 8.0]]), np.zeros(2, int), truth, np.zeros(2, int))
    assert found.all()
