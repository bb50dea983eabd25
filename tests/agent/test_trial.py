"""How far outputs are from what was expected, and samples that would test nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.agent import trial
from edgekit.runner import protocol


def rows(*values):
    return [{"y": np.array([value], np.float32)} for value in values]


def test_the_deviation_is_a_share_of_the_range_over_all_samples():
    assert trial.deviation(rows([0, 10], [5, 5]), rows([0, 10], [5, 5.5])) == pytest.approx(0.05)
    assert trial.deviation(rows([0, 10]), rows([0, 10])) == 0


def test_the_worst_output_counts():
    expected = [{"a": np.array([0.0, 1.0]), "b": np.array([0.0, 100.0])}]
    got = [{"a": np.array([0.0, 0.5]), "b": np.array([0.0, 99.0])}]
    assert trial.deviation(expected, got) == pytest.approx(0.5)


def test_what_is_no_number_is_infinitely_far():
    assert trial.deviation(rows([0, 1]), rows([0, math.nan])) == math.inf
    assert trial.deviation(rows([0, 1]), rows([0, math.inf])) == math.inf
    with pytest.raises(ValueError, match="expected to be no number"):
        trial.deviation(rows([0, math.nan]), rows([0, 1]))


@pytest.mark.parametrize("got", [[{"z": np.zeros((1, 2))}], [{"y": np.zeros((1, 3))}], [{"y": np.zeros((1, 2)), "z": np.zeros(1)}]])
def test_other_outputs_than_expected(got):
    with pytest.raises(ValueError, match="another name or shape"):
        trial.deviation(rows([0, 1]), got)


def frames(*batches):
    return b"".join(bytes(piece) for arrays in batches for piece in protocol.pack({}, arrays))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        frames({"x": np.ones(1)}),
        frames({"x": np.ones(1)}, {}),
        frames({"x": np.ones(1)}, {"y": np.ones(0)}),
        2 * frames({"x": np.ones(1)}, {"y": np.ones(1)}),
    ],
    ids=["none", "no output", "no array", "empty array", "too many"],
)
def test_samples_that_test_nothing(tmp_path, data):
    path = tmp_path / "samples"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="where the manifest says 1"):
        trial.read_samples(path, 1)
