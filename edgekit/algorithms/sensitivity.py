"""Which layers to keep in float so that the others can be integers: the fewest whose noise, left out, lets the outputs through cleanly.

Each layer is quantized alone and its noise at the outputs measured. Rounding errors of different layers are nearly uncorrelated, so
their powers add (Lin et al. 2016, "Fixed Point Quantization of Deep Convolutional Networks", arXiv:1511.06393), and leaving out the
noisiest first leaves the fewest in float. The sum only predicts: what was chosen is measured, and corrected by a layer or two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


@dataclass
class Noise:
    """Power of what is wrong against power of what is right, output by output, over any number of samples."""

    _signal: dict[int, float] = field(default_factory=dict)
    _error: dict[int, float] = field(default_factory=dict)

    def add(self, reference: Sequence[Array], found: Sequence[Array]) -> None:
        """Compare one sample's outputs, in the same order; what is not finite in the reference does not count."""
        for index, (right, given) in enumerate(zip(reference, found, strict=True)):
            finite = np.isfinite(right)
            wanted = right[finite].astype(np.float64)
            difference = given[finite] - wanted
            self._signal[index] = self._signal.get(index, 0.0) + float(wanted @ wanted)
            self._error[index] = self._error.get(index, 0.0) + float(difference @ difference)

    @property
    def power(self) -> float:
        """Noise power over signal power, of the output that fares worst; infinite where a result is not finite."""
        shares = [_ratio(error, self._signal[index]) for index, error in self._error.items()]
        return max((share if math.isfinite(share) else math.inf for share in shares), default=0.0)


def decibels(power: float) -> float:
    """Signal-to-noise ratio in dB of a noise power relative to the signal's."""
    return -10 * math.log10(power) if power > 0 else math.inf


def noisiest_first(noises: Mapping[str, float]) -> list[str]:
    """Layer names by falling noise power; equal ones in their given order."""
    return sorted(noises, key=lambda name: -noises[name])


def predicted(noises: Mapping[str, float], kept: Sequence[str] = ()) -> float:
    """Signal-to-noise ratio in dB with some layers in float, if the noise powers of the others add."""
    return decibels(sum(noises[name] for name in noises if name not in set(kept)))


def fewest_in_float(noises: Mapping[str, float], wanted: float) -> list[str]:
    """Return the fewest layers to keep in float so that the predicted ratio reaches the wanted one, noisiest first.

    Args:
        noises: noise power at the outputs of each layer quantized alone, relative to the signal's.
        wanted: signal-to-noise ratio in dB.
    """
    order = noisiest_first(noises)
    return next(order[:count] for count in range(len(order) + 1) if predicted(noises, order[:count]) >= wanted)


def settled(noises: Mapping[str, float], wanted: float, measure: Callable[[Sequence[str]], float]) -> tuple[list[str], float]:
    """Correct the prediction by measurement: one layer more or less in float until one less would miss the wanted ratio.

    Args:
        noises: as for :func:`fewest_in_float`.
        wanted: signal-to-noise ratio in dB.
        measure: returns the ratio in dB with some layers in float.

    Returns:
        The layers to keep in float, noisiest first, and the ratio that was measured with them; less than wanted only where all
        of them are in float and something else is noisy.
    """
    order = noisiest_first(noises)
    known: dict[int, float] = {}

    def ratio(count: int) -> float:
        if count not in known:
            known[count] = measure(order[:count])
        return known[count]

    count = len(fewest_in_float(noises, wanted))
    while count < len(order) and ratio(count) < wanted:
        count += 1
    while count and ratio(count) >= wanted and ratio(count - 1) >= wanted:
        count -= 1
    return order[:count], ratio(count)


def _ratio(error: float, signal: float) -> float:
    if signal:
        return error / signal
    return 0.0 if error == 0 else math.inf
