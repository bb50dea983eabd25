"""From a recording's samples to what speech networks look at: mel spectra, in the definitions of HTK and Kaldi."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

LOUDNESS_FLOOR = 1e-6


def to_length(samples: np.ndarray, length: int, *, repeat: bool) -> np.ndarray:
    """Bring samples [T] to a length: the middle of a longer recording; a shorter one repeated from its start, or followed by silence."""
    if len(samples) >= length:
        start = (len(samples) - length) // 2
        return samples[start : start + length]
    if repeat and len(samples):
        return np.resize(samples, length)
    return np.pad(samples, (0, length - len(samples)))


def log_mel(samples: np.ndarray, rate: int, *, window: float, step: float, bands: int, low: float, high: float) -> np.ndarray:
    """Logarithm of the power in mel bands over time.

    Args:
        samples: [T] in -1..1.
        rate: samples a second.
        window: length of a Hann window in seconds.
        step: time between windows in seconds.
        bands: triangular bands, equally wide in mel.
        low: lower edge of the lowest in Hz.
        high: upper edge of the highest in Hz.

    Returns:
        float32 [bands, frames], natural logarithm.

    Reference: Davis and Mermelstein 1980, "Comparison of Parametric Representations for Monosyllabic Word Recognition".
    """
    size, hop = round(window * rate), round(step * rate)
    spectrum = 1 << (size - 1).bit_length()
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), size)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    power = np.abs(np.fft.rfft(frames * hann, spectrum)) ** 2
    return np.asarray(np.log(power @ mel_bands(rate, spectrum, bands, low, high) + LOUDNESS_FLOOR).T, np.float32)


@lru_cache(maxsize=32)
def mel_bands(rate: int, spectrum: int, bands: int, low: float, high: float) -> np.ndarray:
    """Triangles [spectrum / 2 + 1, bands] with a height of one."""
    edges = np.linspace(mel(np.array(low)), mel(np.array(high)), bands + 2)
    places = mel(np.linspace(0, rate / 2, spectrum // 2 + 1))[:, None]
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))


def mel(hertz: np.ndarray) -> np.ndarray:
    """Frequency on the mel scale."""
    return np.asarray(1127 * np.log1p(hertz / 700))
