"""Spoken digits as the MFCC that MLPerf Tiny's keyword spotting takes, to calibrate it on other voices than those that judge it.

The front end is the benchmark's: 16 kHz, the largest sample scaled to 1, padded with silence to one second; Hann windows of 30 ms every
20 ms, 512-point spectrum, 40 mel bands from 20 to 4000 Hz, log(x + 1e-6), DCT-II, first 10 coefficients; then int8 with scale 0.58470289
and zero point 83.
Reference: Banbury et al. 2021, "MLPerf Tiny Benchmark" (arXiv:2106.07597); Davis and Mermelstein 1980 for the MFCC.
"""

from __future__ import annotations

import io
import wave
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

RATE, WINDOW, STEP, SPECTRUM = 16_000, 480, 320, 512
BANDS, LOWEST, HIGHEST, COEFFICIENTS = 40, 20.0, 4000.0, 10
SCALE, ZERO_POINT = 0.58470289, 83


class SpokenDigits(Sequence[tuple[np.ndarray, None]]):
    """The recordings of a zip of 8 kHz WAV files, in the order of their names; each is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        self._names = sorted(name for name in self._archive.namelist() if name.endswith(".wav"))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        with wave.open(io.BytesIO(self._archive.read(self._names[index]))) as recording:
            samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.float64)
            speech = doubled(samples) if recording.getframerate() * 2 == RATE else samples
        second = np.zeros(RATE)
        second[: len(speech)] = speech[:RATE] / speech[:RATE].max()
        return np.clip(np.round(mfcc(second) / SCALE) + ZERO_POINT, -128, 127).astype(np.int8), None


def load(path: Path) -> SpokenDigits:
    """Open the zip."""
    return SpokenDigits(path)


def doubled(samples: np.ndarray) -> np.ndarray:
    """Double the sampling rate exactly, by an empty upper half of the spectrum."""
    spectrum = np.zeros(len(samples) + 1, np.complex128)
    spectrum[: len(samples) // 2 + 1] = np.fft.rfft(samples)
    return np.fft.irfft(spectrum, 2 * len(samples)) * 2


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstral coefficients [frames, 10] of samples in -1..1."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    loudness = np.log(np.abs(np.fft.rfft(frames * hann, SPECTRUM)) @ bands() + 1e-6)
    order = np.arange(COEFFICIENTS)[:, None]
    cosines = np.cos(np.pi * order * (2 * np.arange(BANDS) + 1) / (2 * BANDS))
    return 2 * (loudness @ cosines.T) / np.sqrt(2 * BANDS)


@cache
def bands() -> np.ndarray:
    """Triangles [spectrum bins, bands], equally wide in mel; the constant bin belongs to none."""
    frequencies = mel(np.linspace(0, RATE / 2, SPECTRUM // 2 + 1))[:, None]
    edges = np.linspace(mel(np.array(LOWEST)), mel(np.array(HIGHEST)), BANDS + 2)
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    triangles[0] = 0
    return triangles


def mel(hertz: np.ndarray) -> np.ndarray:
    """Frequency on the mel scale."""
    return 1127 * np.log1p(hertz / 700)
