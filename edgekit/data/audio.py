"""Reads recordings (WAV) from a folder, tar or zip, as samples or as mel spectra; labels stand in their names or in a list."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from edgekit.algorithms import speech
from edgekit.core.datasets import Record, Reference
from edgekit.core.errors import DataError, closest
from edgekit.core.plugin import Reader
from edgekit.core.resources import expand
from edgekit.core.schema import Schema
from edgekit.data._shelf import Shelf, beside, open_shelf

LABEL = "label"
_WIDTHS = {1: ("u1", 128, 2**7), 2: ("<i2", 0, 2**15), 4: ("<i4", 0, 2**31)}
"""Bytes of a PCM sample: NumPy's type, its zero, and its largest magnitude."""


class LogMel(Schema):
    """Logarithm of the power in mel bands; see :func:`edgekit.algorithms.speech.log_mel`."""

    bands: int = Field(40, ge=1, le=256, description="Mel bands.")
    window: float = Field(0.025, gt=0, le=1, description="Length of a window in seconds.")
    step: float = Field(0.01, gt=0, le=1, description="Time between windows in seconds.")
    low: float = Field(20.0, ge=0, description="Lower edge of the lowest band in Hz.")
    high: float | None = Field(None, gt=0, description="Upper edge of the highest band in Hz; half the sampling rate where left out.")
    normalize: Literal["none", "mean"] = Field("none", description="Take each band's mean over time away, which removes the microphone.")


@dataclass(frozen=True)
class _Recording:
    name: str
    label: str | Reference | None
    metadata: dict[str, str] = field(default_factory=dict)


class Audio(Reader):
    """One recording a sample, mono, at the rate that the model takes; in the order of the names."""

    path: str = Field(description="Folder, uncompressed .tar, or .zip.")
    name: str = Field(
        r".*\.wav",
        description="Regular expression of the names to read; a group (?P<label>...) is the label, other named groups are metadata.",
    )
    transcripts: str | None = Field(None, description="File inside or beside 'path' with lines 'name<TAB>text': the labels.")
    rate: int = Field(16_000, ge=1000, le=192_000, description="Samples a second; recordings at another rate are refused.")
    seconds: float = Field(gt=0, le=3600, description="Length of a sample: longer recordings give their middle, shorter ones are filled.")
    fill: Literal["silence", "repeat"] = Field("silence", description="What follows a shorter recording.")
    features: LogMel | None = Field(None, description="Mel spectra [bands, frames] instead of samples [T] in -1..1.")
    input: str = Field("input", description="The model's input.")

    @field_validator("name")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as problem:
            raise ValueError(f"no regular expression ({problem})") from problem
        return value

    @model_validator(mode="after")
    def _fits(self) -> Audio:
        if self.features and (self.features.high or self.rate / 2) > self.rate / 2:
            raise ValueError(f"features.high lies beyond half the rate of {self.rate}")
        if self.features and self.features.window > self.seconds:
            raise ValueError("features.window is longer than 'seconds'")
        return self

    def files(self, base: Path) -> list[Path]:
        """The archive, or every recording, and the transcripts."""
        path = expand(self.path, base)
        if not path.exists():
            return [path]
        shelf = open_shelf(path)
        found = shelf.files([recording.name for recording in self._recordings(shelf, path)])
        outside = beside(shelf, path, self.transcripts)[0] if self.transcripts else None
        inside = shelf.files([self.transcripts]) if self.transcripts and outside is None else []
        return list(dict.fromkeys([*found, *inside, *([outside] if outside else [])]))

    def count(self, base: Path) -> int:
        """Number of recordings."""
        path = expand(self.path, base)
        return len(self._recordings(open_shelf(path), path))

    def stream(self, base: Path, indices: Sequence[int]) -> Iterator[Record]:
        """Yield recordings as float32 [T] or [bands, frames].

        Raises:
            DataError: a file that is no WAV, holds no samples, or is at another rate.
        """
        path = expand(self.path, base)
        shelf = open_shelf(path)
        recordings = self._recordings(shelf, path)
        for index in indices:
            recording = recordings[index]
            samples = decode(shelf.read(recording.name), f"{path}/{recording.name}", self.rate)
            yield Record({self.input: self.prepared(samples)}, recording.label, recording.metadata)

    def prepared(self, samples: np.ndarray) -> np.ndarray:
        """Bring samples [T] to the length, and to mel spectra where those are wanted."""
        whole = speech.to_length(samples, round(self.seconds * self.rate), repeat=self.fill == "repeat")
        wanted = self.features
        if wanted is None:
            return whole.astype(np.float32)
        high = wanted.high or self.rate / 2
        spectra = speech.log_mel(whole, self.rate, window=wanted.window, step=wanted.step, bands=wanted.bands, low=wanted.low, high=high)
        return spectra - spectra.mean(axis=1, keepdims=True) if wanted.normalize == "mean" else spectra

    def _recordings(self, shelf: Shelf, path: Path) -> list[_Recording]:
        matches = [match for name in shelf.names() if (match := re.fullmatch(self.name, name))]
        texts = self._texts(shelf, path) if self.transcripts else None
        found = []
        for match in matches:
            groups = {group: value or "" for group, value in match.groupdict().items()}
            name, label = match.string, groups.pop(LABEL, None)
            if texts is not None and name not in texts:
                raise DataError(f"{self.transcripts}: says nothing about {name}", hint=closest(name, texts))
            found.append(_Recording(name, label if texts is None else Reference((texts[name],)), groups))
        return found

    def _texts(self, shelf: Shelf, path: Path) -> dict[str, str]:
        _, read = beside(shelf, path, str(self.transcripts))
        texts = {}
        for number, line in enumerate(read().decode("utf-8-sig", errors="replace").splitlines(), 1):
            name, tab, text = line.partition("\t")
            if line.strip() and not tab:
                raise DataError(f"{self.transcripts}: line {number} has no tab", hint="write 'name<TAB>text'")
            texts[name] = text
        return texts


def decode(data: bytes, where: str, rate: int) -> np.ndarray:
    """Decode a WAV file; several channels are averaged.

    Args:
        data: the encoded file.
        where: its name, for messages.
        rate: samples a second that it must have.

    Returns:
        float64 [T] in -1..1.

    Raises:
        DataError: not a WAV file of whole 8, 16 or 32 bit samples, empty, or at another rate.
    """
    try:
        with wave.open(io.BytesIO(data)) as recording:
            channels, width, found, frames = recording.getparams()[:4]
            stored = recording.readframes(frames)
    except (wave.Error, EOFError, OSError) as problem:
        raise DataError(f"{where}: is no WAV recording ({problem})", hint="convert it: ffmpeg -i FILE -c:a pcm_s16le OUT.wav") from problem
    if width not in _WIDTHS:
        raise DataError(f"{where}: has {8 * width} bits a sample", hint="convert it: ffmpeg -i FILE -c:a pcm_s16le OUT.wav")
    if found != rate:
        raise DataError(f"{where}: is at {found} Hz, not {rate}", hint=f"resample it: ffmpeg -i FILE -ar {rate} OUT.wav, or set 'rate'")
    if not stored or len(stored) % (channels * width):
        raise DataError(f"{where}: holds no whole samples", hint="fetch it again, or leave it out with 'name'")
    kind, zero, largest = _WIDTHS[width]
    samples = (np.frombuffer(stored, kind).astype(np.float64) - zero) / largest
    return np.asarray(samples.reshape(-1, channels).mean(axis=1))
