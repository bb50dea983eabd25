"""The front end against its definitions."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms.speech import log_mel, mel, mel_bands, to_length


def test_a_tone_lights_its_own_band() -> None:
    edges = np.linspace(mel(np.array(20.0)), mel(np.array(4000.0)), 42)
    middle = 700 * np.expm1(edges[1:-1] / 1127)
    for band in (10, 25, 38):
        tone = np.sin(2 * np.pi * middle[band] * np.arange(8000) / 8000)
        found = log_mel(tone, 8000, window=0.032, step=0.01, bands=40, low=20, high=4000)
        assert found.shape == (40, 97)
        assert found.dtype == np.float32
        assert set(found.argmax(axis=0)) == {band}


def test_twice_as_loud_is_log_four_more() -> None:
    noise = np.random.default_rng(0).normal(size=4000)
    quiet, loud = (log_mel(size * noise, 8000, window=0.025, step=0.01, bands=20, low=20, high=4000) for size in (1, 2))
    np.testing.assert_allclose(loud - quiet, np.log(4), atol=1e-4)


def test_silence_is_the_floor() -> None:
    assert log_mel(np.zeros(800), 8000, window=0.025, step=0.01, bands=4, low=20, high=4000) == pytest.approx(np.log(1e-6))


def test_bands_cover_what_lies_between_their_edges_once() -> None:
    bands = mel_bands(16000, 512, 40, 20.0, 8000.0)
    assert bands.shape == (257, 40)
    edges = 700 * np.expm1(np.linspace(mel(np.array(20.0)), mel(np.array(8000.0)), 42) / 1127)
    frequencies = np.linspace(0, 8000, 257)
    between = (frequencies > edges[1]) & (frequencies < edges[40])
    np.testing.assert_allclose(bands.sum(axis=1)[between], 1)


def test_lengths() -> None:
    samples = np.arange(5)
    assert to_length(samples, 3, repeat=False).tolist() == [1, 2, 3]
    assert to_length(samples, 7, repeat=False).tolist() == [0, 1, 2, 3, 4, 0, 0]
    assert to_length(samples, 12, repeat=True).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
