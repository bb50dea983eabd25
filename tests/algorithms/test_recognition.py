from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms.recognition import recognised, signature

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(2, 3, 4, 4)), RNG.normal(size=(2, 3, 4, 4))


def test_a_signature_is_count_ends_mean_and_power() -> None:
    assert signature(np.array([[1.0, -2.0], [3.0, 2.0]])) == (4, -2, 3, 1, pytest.approx(np.sqrt(4.5)))


@pytest.mark.parametrize("same", [FIRST, FIRST.transpose(0, 2, 3, 1), FIRST.reshape(-1), FIRST * (1 + 1e-6)], ids=lambda a: str(a.shape))
def test_a_tensor_is_recognised_in_another_order_and_with_rounding_errors(same: np.ndarray) -> None:
    known = [(signature(SECOND), "second"), (signature(FIRST), "first")]
    assert recognised({"t": same, "u": SECOND}, known) == {"t": "first", "u": "second"}


@pytest.mark.parametrize(
    "other", [FIRST + 0.01, np.maximum(FIRST, 0), FIRST[:1], np.pad(FIRST, ((0, 0), (0, 1), (0, 0), (0, 0)))], ids=range(4)
)
def test_a_tensor_that_holds_something_else_is_not_recognised(other: np.ndarray) -> None:
    assert recognised({"t": other}, [(signature(FIRST), "first")]) == {}


def test_constants_tell_nothing() -> None:
    zeros = np.zeros((2, 3))
    assert recognised({"t": zeros}, [(signature(zeros), "zeros")]) == {}
    assert recognised({"t": np.zeros(0)}, [(signature(FIRST), "first")]) == {}


def test_the_nearest_of_two_alike_is_taken() -> None:
    known = [(signature(FIRST * 1.0003), "near"), (signature(FIRST), "same")]
    assert recognised({"t": FIRST}, known) == {"t": "same"}
