"""Activation functions on NumPy arrays, as ONNX and TFLite define them: what an error before one of them costs behind it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Function = Callable[[Array], Array]
"""An elementwise function of an array of any shape."""


def clip(low: float, high: float) -> Function:
    """Values limited to a range; ReLU is ``clip(0, inf)``, ReLU6 ``clip(0, 6)``."""
    return lambda x: np.clip(x, low, high)


def leaky_relu(slope: float) -> Function:
    """Values below zero times a slope (Maas et al. 2013)."""
    return lambda x: np.where(x < 0, slope * x, x)


def elu(alpha: float) -> Function:
    """Exponential below zero (Clevert et al. 2016, arXiv:1511.07289)."""
    return lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def hard_sigmoid(slope: float, offset: float) -> Function:
    """A line limited to 0 and 1."""
    return lambda x: np.clip(slope * x + offset, 0, 1)


def hard_swish(x: Array) -> Array:
    """Values times a hard sigmoid (Howard et al. 2019, arXiv:1905.02244)."""
    return x * np.clip(x / 6 + 0.5, 0, 1)


def sigmoid(x: Array) -> Array:
    """Logistic function, without overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.asarray(np.tanh(x))


def gelu(x: Array) -> Array:
    """Values times the normal distribution function (Hendrycks & Gimpel 2016, arXiv:1606.08415), in its tanh form, exact to 0.0005."""
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
