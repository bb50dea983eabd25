"""Where to clip a tensor so that rounding and clipping together cost least, found from a histogram of constant size.

The largest value ever seen makes the steps of an int8 grid wide for all the others; a range a little too narrow clips few values and
rounds the rest more finely. The best range has the least mean squared error, judged on what the next layer sees: after the activation
function, if one follows.

References: Banner et al. 2019, "Post training 4-bit quantization of convolutional networks for rapid-deployment" (arXiv:1810.05723),
for clipping against rounding; Nagel et al. 2021, "A White Paper on Neural Network Quantization" (arXiv:2106.08295),
section 3.1, for ranges set by mean squared error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekit.algorithms.activations import Array, Function

BINS = 8192
"""Bins of a histogram; between 16 and 32 of them make a step of an 8-bit grid over the whole range."""
_NARROWEST = -149  # exponent of the smallest float32; the first values widen the bins
_COARSE = np.geomspace(1, 1 / 256, 40)
_FINE = 9
_ROUNDS = 4


@dataclass(frozen=True)
class Grid:
    """The integers that values are rounded to.

    Attributes:
        low: smallest integer.
        high: largest integer.
        symmetric: whether the range reaches equally far on both sides of zero, which then lies in the middle.
    """

    low: int
    high: int
    symmetric: bool

    def parameters(self, low: float, high: float) -> tuple[float, int]:
        """Return scale and zero point for a range that contains zero."""
        if self.symmetric:
            bound = max(-low, high)
            return 2 * bound / (self.high - self.low), round((self.low + self.high) / 2)
        scale = (high - low) / (self.high - self.low)
        return scale, round(self.low - low / scale) if scale else 0

    def rounded(self, values: Array, low: float, high: float) -> Array:
        """Return values [...] as they come back from the grid over a range that contains zero."""
        scale, zero = self.parameters(low, high)
        if not scale:
            return np.zeros_like(values)
        integers = np.rint(values / scale)
        integers += zero
        np.clip(integers, self.low, self.high, out=integers)
        integers -= zero
        integers *= scale
        return integers


UINT8 = Grid(0, 255, symmetric=False)
INT8 = Grid(-128, 127, symmetric=False)
INT8_SYMMETRIC = Grid(-127, 127, symmetric=True)


class Histogram:
    """Counts of values in bins whose width is a power of two and doubles when a value lies beyond them.

    So the memory is constant, one pass over the values is enough, and neither their order nor how they come in parts matters. Exact
    zeros are counted apart, because every grid represents them without error.

    Attributes:
        low: smallest value seen, at most 0.
        high: largest value seen, at least 0.
        zeros: values that are exactly zero.
    """

    def __init__(self, bins: int = BINS) -> None:
        self._bins = bins
        self._exponent = _NARROWEST
        self._first = 0
        self._counts = np.zeros(1, dtype=np.int64)
        self.low = 0.0
        self.high = 0.0
        self.zeros = 0

    def add(self, values: Array, part: Array | None = None) -> None:
        """Count values; infinities and NaN are left out.

        Args:
            values: any shape.
            part: some of them that stand for all, where counting all would take long; the ends are those of all.
        """
        counted = (values if part is None else part).reshape(-1)
        low, high = _ends(values)
        if not (math.isfinite(low) and math.isfinite(high)):
            low, high = _ends(values[np.isfinite(values)])
            counted = counted[np.isfinite(counted)]
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._cover()
        index = np.floor(np.ldexp(counted, -self._exponent)).astype(np.int32)  # exact: the width is a power of two
        index -= self._first
        self._counts += np.bincount(index, minlength=len(self._counts))
        zeros = counted.size - int(np.count_nonzero(counted))
        self._counts[-self._first] -= zeros
        self.zeros += zeros

    @property
    def points(self) -> tuple[Array, Array]:
        """Centres of the bins that hold values [B] and how many [B]; zeros are not among them."""
        held = np.flatnonzero(self._counts)
        return np.ldexp(held + self._first + 0.5, self._exponent), self._counts[held].astype(np.float64)

    def _cover(self) -> None:
        """Widen the bins, if need be, until they reach from the smallest to the largest value seen."""
        exponent = self._exponent
        while self._span(exponent)[1] >= self._bins:
            exponent += 1
        first, length = self._span(exponent)[0], self._span(exponent)[1] + 1
        if (first, length, exponent) == (self._first, len(self._counts), self._exponent):
            return
        counts = np.zeros(length, dtype=np.int64)
        moved = ((self._first + np.arange(len(self._counts))) >> (exponent - self._exponent)) - first
        np.add.at(counts, moved, self._counts)
        self._counts, self._first, self._exponent = counts, first, exponent

    def _span(self, exponent: int) -> tuple[int, int]:
        """Number of the first bin, and how many bins further the last one is, if bins are 2**exponent wide."""
        first = math.floor(math.ldexp(self.low, -exponent))
        return first, math.floor(math.ldexp(self.high, -exponent)) - first


def _ends(values: Array) -> tuple[float, float]:
    return (float(np.min(values)), float(np.max(values))) if values.size else (0.0, 0.0)


def thinned(values: Array, limit: int) -> Array:
    """Return at most about ``limit`` values, spread evenly over every axis of an array; a view [N]."""
    flat = values.reshape(-1)
    stride = max(1, flat.size // limit)
    while stride > 1 and math.gcd(stride, flat.size) != 1:  # else whole rows or columns would never be looked at
        stride += 1
    return flat[::stride]


def best_range(histogram: Histogram, grid: Grid, activation: Function | None = None) -> tuple[float, float]:
    """Return the range with the least mean squared error, at most as wide as the values seen.

    Args:
        histogram: of the tensor's values.
        grid: what the range is divided into.
        activation: function that the values go through before anything else reads them; errors are those of its results.

    Returns:
        Low and high end; zero lies between them.
    """
    values, counts = histogram.points
    if not len(values):
        return histogram.low, histogram.high
    wanted = activation(values) if activation else values

    def error(low: float, high: float) -> float:
        rounded = grid.rounded(values, low, high)
        difference = (activation(rounded) if activation else rounded) - wanted
        difference *= difference
        return float(counts @ difference)

    bottom, top = histogram.low, histogram.high
    share = _least(lambda part: error(part * bottom, part * top))
    low, high = share * bottom, share * top
    if grid.symmetric:
        return low, high

    def best_low(high: float) -> float:
        return bottom * _least(lambda part: error(part * bottom, high)) if bottom else bottom

    def best_high(low: float) -> float:
        return top * _least(lambda part: error(low, part * top)) if top else top

    for _ in range(_ROUNDS):
        before = low, high
        high = best_high(low)
        low = best_low(high)
        if before == (low, high):
            break
    return low, high


def _least(error: Callable[[float], float]) -> float:
    """Return the share of a range, in (0, 1], where an error is least: first roughly, then finely beside the best."""
    errors = [error(part) for part in _COARSE]
    best = int(np.argmin(errors))
    found, least = float(_COARSE[best]), errors[best]
    ends = float(_COARSE[min(best + 1, len(_COARSE) - 1)]), float(_COARSE[max(best - 1, 0)])
    for part in np.linspace(*ends, _FINE):
        here = error(float(part))
        if here < least:
            found, least = float(part), here
    return found
