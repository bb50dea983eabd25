from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.plugin import Context
from edgekit.search._samples import BYTES, Part, divided, in_memory


def rows(data: object) -> set[str]:
    return set(data.sample_digests())  # type: ignore[attr-defined]


def test_a_quarter_of_the_calibration_samples_is_held_out_of_it(points: Any) -> None:
    whole = points(41)
    calibration, judging = divided(Context(example={}, calibration=whole))
    assert calibration is not None
    assert (len(calibration), len(judging)) == (31, 10)
    assert rows(calibration) | rows(judging) == rows(whole)
    assert not rows(calibration) & rows(judging)
    assert len({calibration.digest, judging.digest, whole.digest}) == 3


def test_a_part_streams_its_samples_with_their_labels(points: Any) -> None:
    whole = points(20)
    part = Part(whole, [3, 7, 11, 15, 19], "part")
    batches = list(part.batches(2))
    assert [len(labels) for _, labels in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([inputs["x"] for inputs, _ in batches]), whole.rows[[3, 7, 11, 15, 19]])
    assert [label for _, labels in batches for label in labels] == [whole.labels[place] for place in (3, 7, 11, 15, 19)]
    (few,) = [inputs["x"] for inputs, _ in part.batches(5, limit=2)]
    np.testing.assert_array_equal(few, whole.rows[[3, 11]])
    assert len(part.metadata()) == 5
    assert part.provenance == {"name": "part", "samples": 5}


@pytest.mark.parametrize(("size", "count"), [(4, 400), (BYTES // 4 // 10, 10), (BYTES, 1)])
def test_memory_limits_how_many_judge(monkeypatch: pytest.MonkeyPatch, points: Any, size: int, count: int) -> None:
    from edgekit.search import _samples

    many = points(500)
    monkeypatch.setattr(_samples, "BYTES", BYTES // (size // 4))
    assert len(in_memory(many)) == count
