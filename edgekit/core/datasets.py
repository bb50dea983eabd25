"""Data as stages see it: samples of a set, preprocessed as the model wants them, streamed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.core.artifacts import Batch


@dataclass(frozen=True)
class Record:
    """One sample as a reader finds it, before preprocessing.

    Attributes:
        values: raw inputs by name: an array (an image as uint8 [H, W, C]) or a text.
        label: class index, text, or None when the set has no labels.
        metadata: further columns, for slices.
    """

    values: dict[str, np.ndarray | str]
    label: Any = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Boxes:
    """A label: the objects in a picture.

    Attributes:
        corners: x1, y1, x2, y2 [M, 4] as shares of the picture's width and height, so that resizing does not change them.
        classes: class index of each [M].
    """

    corners: np.ndarray
    classes: np.ndarray


VOID = 255
"""Class of pixels that don't count in a mask, as in Pascal VOC."""


@dataclass(frozen=True)
class Mask:
    """A label: the class of each pixel, uint8 [H, W]; :data:`VOID` where it does not count."""

    pixels: np.ndarray


@dataclass(frozen=True)
class Reference:
    """A label: texts that are right, any one of which an answer, transcript or translation is compared with."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """A label: what may be quoted from a passage.

    Attributes:
        texts: answers that are right; none where the passage does not answer.
        passage: the text.
        spans: first character and the one after the last that each token covers [L, 2]; -1 for tokens outside the passage.
    """

    texts: tuple[str, ...]
    passage: str
    spans: np.ndarray


class DataSet(ABC):
    """A calibration or evaluation set, preprocessed as the model wants it, streamed."""

    name: str
    classes: tuple[str, ...]

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over the set's description, files and selection."""

    @property
    def varying(self) -> Mapping[str, Mapping[int, str]]:
        """Input axes other than the batch that differ from sample to sample, by input name: axis -> symbol; here none."""
        return {}

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of those axes, ascending, for formats with fixed shapes; the last one holds every sample."""
        return ()

    @property
    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Where the set comes from, which split, how many samples, seed, sha256: plain data for the report."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield inputs (first axis: batch) with their labels; at most ``limit`` samples, spread evenly over the set."""

    @abstractmethod
    def sample_digests(self) -> Iterator[str]:
        """Yield the SHA-256 of each raw sample, in order; the same picture under another name has the same digest."""

    @abstractmethod
    def metadata(self) -> list[dict[str, str]]:
        """Further columns of each sample, in order."""


class TrainingSet(DataSet):
    """A set that passes can train on."""

    @abstractmethod
    def shuffled(self, size: int, seed: int) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield every sample once, in an order that the seed decides; memory does not grow with the set."""

    @abstractmethod
    def parted(self, share: float, seed: int) -> tuple[TrainingSet, TrainingSet]:
        """Divide the set at random: what is left, and the share of it (at least one sample) that is held out."""


@dataclass(frozen=True)
class DataSets:
    """The sets of a run, by what they are for; None where the recipe names none."""

    calibration: DataSet | None = None
    evaluation: DataSet | None = None
    training: TrainingSet | None = None
