from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.datasets import Reference
from edgekit.core.errors import DataError, RecipeError
from edgekit.core.plugin import Reader
from edgekit.core.registry import create
from edgekit.data.audio import Audio, LogMel, decode

from .conftest import write_folder, write_tar


def wav(samples: np.ndarray, *, rate: int = 8000, width: int = 2, channels: int = 1) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as recording:
        recording.setparams((channels, width, rate, 0, "NONE", ""))
        recording.writeframes(samples.tobytes())
    return stream.getvalue()


RAMP = np.arange(-400, 400, 10).astype("<i2")
NAMES = r"(?P<label>\d)_(?P<speaker>[a-z]+)_\d\.wav"


def test_names_tell_label_and_metadata_and_others_are_left_out(tmp_path: Path) -> None:
    members = {"7_theo_1.wav": wav(RAMP), "3_lucas_0.wav": wav(RAMP * 2), "noise.wav": wav(RAMP), "readme.txt": b""}
    write_tar(tmp_path / "speech.tar", members)
    reader = Audio(path="speech.tar", name=NAMES, rate=8000, seconds=0.01)
    first, second = reader.stream(tmp_path, [0, 1])
    assert (first.label, first.metadata, second.label) == ("3", {"speaker": "lucas"}, "7")
    np.testing.assert_allclose(second.values["input"], RAMP / 2**15)
    assert second.values["input"].dtype == np.float32


def test_mel_spectra_instead_of_samples(tmp_path: Path) -> None:
    write_folder(tmp_path / "speech", {"1_a_0.wav": wav(np.random.default_rng(0).integers(-900, 900, 4000).astype("<i2"))})
    options = {"path": "speech", "name": NAMES, "rate": 8000, "seconds": 0.5, "fill": "repeat"}
    plain, centred = (
        next(Audio(**options, features=LogMel(bands=20, normalize=how)).stream(tmp_path, [0])).values["input"] for how in ("none", "mean")
    )
    assert plain.shape == (20, 48)
    np.testing.assert_allclose(centred, plain - plain.mean(axis=1, keepdims=True), atol=1e-5)


def test_transcripts_are_texts_to_compare_with(tmp_path: Path) -> None:
    write_folder(tmp_path / "speech", {"a.wav": wav(RAMP), "b.wav": wav(RAMP), "texts.tsv": b"b.wav\tgood morning\na.wav\tyes\n"})
    reader = Audio(path="speech", transcripts="texts.tsv", rate=8000, seconds=0.01)
    assert [record.label for record in reader.stream(tmp_path, [0, 1])] == [Reference(("yes",)), Reference(("good morning",))]
    assert tmp_path / "speech/texts.tsv" in reader.files(tmp_path)
    (tmp_path / "speech/texts.tsv").write_text("b.wav\tgood morning\n")
    with pytest.raises(DataError, match=r"says nothing about a\.wav"):
        reader.count(tmp_path)


@pytest.mark.parametrize(
    ("stored", "width", "expected"),
    [
        (np.array([0, 128, 255], "u1"), 1, [-1, 0, 127 / 128]),
        (np.array([-(2**15), 0, 2**14], "<i2"), 2, [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], "<i4"), 4, [-1, 0, 0.5]),
    ],
)
def test_samples_of_every_width(stored: np.ndarray, width: int, expected: list[float]) -> None:
    np.testing.assert_allclose(decode(wav(stored, width=width), "x", 8000), expected)


def test_several_channels_are_averaged() -> None:
    assert decode(wav(np.array([100, 300, -2, 4], "<i2"), channels=2), "x", 8000).tolist() == [200 / 2**15, 1 / 2**15]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no wave", "is no WAV recording"),
        (wav(RAMP)[:20], "is no WAV recording"),
        (wav(RAMP, rate=16000), "is at 16000 Hz, not 8000"),
        (wav(np.zeros(6, "u1"), width=3), "24 bits"),
        (wav(RAMP[:0]), "no whole samples"),
    ],
)
def test_what_is_no_such_recording_is_named(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"x: .*{message}"):
        decode(content, "x", 8000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "("}, "no regular expression"),
        ({"features": {"high": 5000}}, "beyond half the rate"),
        ({"features": {"window": 0.5}}, "longer than 'seconds'"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        create(Reader, {"use": "audio", "path": "x", "rate": 8000, "seconds": 0.2, **options}, "read")
