from __future__ import annotations

import numpy as np

from edgekit.algorithms.transcripts import collapsed


def test_a_path_is_read_without_doubles_and_blanks() -> None:
    assert collapsed(np.array([0, 3, 3, 0, 3, 1, 1, 0, 2]), 0) == [3, 3, 1, 2]
    assert collapsed(np.array([2, 2, 1, 2]), 2) == [1]
    assert collapsed(np.zeros(0, np.int64), 0) == []
