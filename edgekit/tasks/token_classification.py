"""A tag for each token, such as named entities: F1 of whole entities."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.entities import OUTSIDE, entities
from edgekit.algorithms.scores import finite, pick, softened_divergence
from edgekit.algorithms.sequences import IGNORED, places
from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError
from edgekit.core.figures import Draw, Figures
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

RIGHT, FOUND, TRUE = range(3)
"""Entities of a type that are found and true, found, and true."""


class TokenClassification(Task):
    """F1 over entities of all types (``entity_f1``), with precision and recall, and the accuracy of single tags, in percent.

    A sample is a text; its labels are the number of a tag for each token [L], -100 where a token has none: special tokens, padding, and all
    but the first token of a word. An entity is right when its type, its first and its last token are. Resampling draws whole texts.
    """

    primary = "entity_f1"
    dynamic_int8 = frozenset({"onnx", "tflite"})
    auto_class = "AutoModelForTokenClassification"

    tags: tuple[str, ...] = Field(
        (), description="Name of each tag, such as [O, B-PER, I-PER]; without them every tag but the first is an entity of its own."
    )
    output: str | None = Field(None, description="Output with the tags' scores; needed only where the model has several.")

    def loss(self, outputs: Mapping[str, torch.Tensor], labels: Sequence[Any]) -> torch.Tensor:
        """Cross-entropy of the tags.

        Raises:
            DataError: no labels, or another length than the outputs'.
        """
        import torch

        scores = outputs[pick(outputs, self.output)]
        truth = torch.from_numpy(places(labels, tuple(scores.shape))).to(scores.device)
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), truth.flatten(), ignore_index=IGNORED)

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """Divergence of softened distributions of the tags, mean over all places (Hinton et al. 2015, arXiv:1503.02531)."""
        name = pick(taught, self.output)
        mine, theirs = ({name: values[name].flatten(0, 1)} for values in (outputs, taught))
        return softened_divergence(mine, theirs, name, temperature)

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return entities of each type that are right, found and true, right tags, tags, and a code for the tags: [N, 3 types + 3].

        Raises:
            DataError: outputs that are no scores of tags, or labels that don't fit them.
        """
        name = pick(outputs, self.output)
        scores = np.asarray(outputs[name])
        if scores.ndim != 3 or len(scores) != len(labels):
            raise DataError(
                f"output {name!r} is {list(scores.shape)}, a tagger gives [{len(labels)}, length, tags]",
                hint="choose another output or task; task: generic compares any outputs",
            )
        if self.tags and len(self.tags) != scores.shape[2]:
            raise DataError(f"'tags' names {len(self.tags)} tags, the model has {scores.shape[2]}", hint="name them all, in its order")
        truth, found = places(labels, scores.shape), finite(scores, name).argmax(axis=2)
        return np.array(
            [
                self._row(mine[wanted != IGNORED], wanted[wanted != IGNORED], scores.shape[2])
                for mine, wanted in zip(found, truth, strict=True)
            ]
        )

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """F1, precision and recall of entities, and accuracy of tags, in percent; 100 where there is nothing to find."""
        right, found, true = observations[:, :-3].sum(axis=0).reshape(3, -1).sum(axis=1)
        hits, tags = observations[:, -3:-1].sum(axis=0)
        return {
            "entity_f1": 100 * _share(2 * right, found + true),
            "precision": 100 * _share(right, found),
            "recall": 100 * _share(right, true),
            "accuracy": 100 * _share(hits, tags),
        }

    def figures(self, observations: np.ndarray) -> Draw:
        """F1 of a draw of texts, and that of each type."""
        counted = observations[:, :-3]

        def draw(counts: np.ndarray) -> Figures:
            right, found, true = (counts @ counted).reshape(3, -1)
            by_type = np.where(true > 0, 2 * right / np.maximum(found + true, 1), np.nan)
            return Figures(100 * _share(2 * right.sum(), (found + true).sum()), 100 * by_type)

        return draw

    def holds(self, observations: np.ndarray) -> np.ndarray | None:
        """Types of the entities in each text, each at the place of its first tag."""
        return np.asarray(observations[:, :-3].reshape(len(observations), 3, -1)[:, TRUE] > 0)

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number that changes when any tag of a text does."""
        return observations[:, -1].astype(np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a text holds entities of several types."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a text as a whole is neither right nor wrong."""
        return None

    def _row(self, found: np.ndarray, true: np.ndarray, tags: int) -> np.ndarray:
        mine, theirs = (set(entities(self._named(row))) for row in (found, true))
        counts = np.zeros((3, tags))
        for place, kept in ((RIGHT, mine & theirs), (FOUND, mine), (TRUE, theirs)):
            for kind, *_ in kept:
                counts[place, self._first[kind] if self.tags else int(kind)] += 1
        code = zlib.crc32(found.astype(np.int64).tobytes())
        return np.concatenate([counts.ravel(), [(found == true).sum(), len(true), code]]).astype(np.float64)

    def _named(self, row: np.ndarray) -> list[str]:
        if self.tags:
            return [self.tags[tag] for tag in row]
        return [f"B-{tag}" if tag else OUTSIDE for tag in row]

    @cached_property
    def _first(self) -> dict[str, int]:
        """Place of the first tag of each type."""
        found: dict[str, int] = {}
        for place, tag in enumerate(self.tags):
            found.setdefault(tag.partition("-")[2], place)
        return found


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 1.0
