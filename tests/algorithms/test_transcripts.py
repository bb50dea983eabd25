from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms.transcripts import collapsed, edits


def test_a_path_is_read_without_doubles_and_blanks() -> None:
    assert collapsed(np.array([0, 3, 3, 0, 3, 1, 1, 0, 2]), 0) == [3, 3, 1, 2]
    assert collapsed(np.array([2, 2, 1, 2]), 2) == [1]
    assert collapsed(np.zeros(0, np.int64), 0) == []


@pytest.mark.parametrize(
    ("written", "wanted", "expected"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("", "", 0), ("abc", "abc", 0), ("ba", "ab", 2)],
)
def test_the_distance_is_levenshteins(written: str, wanted: str, expected: int) -> None:
    assert edits(written, wanted) == expected


def test_the_distance_is_that_of_the_whole_table() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (rng.integers(0, 3, rng.integers(0, 9)).tolist() for _ in range(2))
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        table[:, 0], table[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
        for i in range(len(a)):
            for j in range(len(b)):
                table[i + 1, j + 1] = min(table[i, j + 1] + 1, table[i + 1, j] + 1, table[i, j] + (a[i] != b[j]))
        assert edits(a, b) == table[-1, -1]
