from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.algorithms import activations

X = np.array([-800.0, -4.0, -1.0, 0.0, 0.5, 2.0, 7.0, 800.0])


def test_each_function_at_known_points() -> None:
    assert activations.clip(0, 6)(X).tolist() == [0, 0, 0, 0, 0.5, 2, 6, 6]
    assert activations.clip(0, math.inf)(X).tolist() == [0, 0, 0, 0, 0.5, 2, 7, 800]
    assert activations.leaky_relu(0.1)(X) == pytest.approx([-80, -0.4, -0.1, 0, 0.5, 2, 7, 800])
    assert activations.elu(2.0)(X) == pytest.approx([-2, 2 * math.expm1(-4), 2 * math.expm1(-1), 0, 0.5, 2, 7, 800])
    assert activations.hard_sigmoid(0.2, 0.5)(X) == pytest.approx([0, 0, 0.3, 0.5, 0.6, 0.9, 1, 1])
    assert activations.hard_swish(X) == pytest.approx([0, 0, -1 / 3, 0, 0.5 * (0.5 / 6 + 0.5), 2 * (2 / 6 + 0.5), 7, 800])
    assert activations.sigmoid(X) == pytest.approx(
        [0, 1 / (1 + math.exp(4)), 1 / (1 + math.e), 0.5, 1 / (1 + math.exp(-0.5)), 0.8807970780, 0.9990889488, 1]
    )
    assert activations.tanh(X) == pytest.approx([math.tanh(x) for x in X])


def test_gelu_is_near_the_exact_one() -> None:
    exact = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in X]
    assert activations.gelu(X) == pytest.approx(exact, abs=5e-4)
