"""Texts that a model wrote as token numbers, beside the texts that are right."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from edgekit.core.artifacts import Batch
from edgekit.core.datasets import Reference
from edgekit.core.errors import DataError, closest
from edgekit.core.plugin import Task
from edgekit.core.resources import expand

IGNORED = -100
"""Label of a place that holds no token, as in Transformers."""


class WrittenText(Task):
    """Base of tasks that judge written texts: observations are a text's counts, then a code for the text itself."""

    dynamic_int8 = frozenset({"onnx", "tflite"})
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"

    tokenizer: str | None = Field(None, description="Folder of the tokenizer that turns tokens into text; without it tokens are words.")
    special: tuple[int, ...] = Field((), description="Tokens that are no words, where there is no tokenizer: padding, start, end.")
    output: str = Field("tokens", description="Output with the written tokens.")

    def counts(self, written: str, references: Sequence[str]) -> np.ndarray:
        """Return what a text adds to the sums that the metrics are made of [C]."""
        raise NotImplementedError

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return counts and a code for the text: [N, C + 1].

        Raises:
            DataError: outputs that are no tokens, or labels that are no texts.
        """
        if self.output not in outputs:
            raise DataError(f"the model has no output {self.output!r}", hint=closest(self.output, outputs))
        tokens = np.asarray(outputs[self.output])
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or len(tokens) != len(labels):
            raise DataError(
                f"output {self.output!r} is {tokens.dtype} {list(tokens.shape)}, written texts are whole numbers [{len(labels)}, length]",
                hint="divide the model with 'parts: encoder_decoder', which writes tokens",
            )
        read = _reader(self.tokenizer, self.special)
        rows = []
        for row, label in zip(tokens, labels, strict=True):
            text = read(row)
            rows.append([*self.counts(text, _references(label, read)), float(zlib.crc32(text.encode()))])
        return np.array(rows, np.float64)

    def likely_losses(self, outputs: Batch, original: Batch) -> np.ndarray:
        """Return the share of places [N] whose token changed, in points."""
        mine, theirs = (np.asarray(side[self.output]) for side in (outputs, original))
        return np.asarray(100 * (mine != theirs).mean(axis=1))

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number that changes when the text does."""
        return observations[:, -1].astype(np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: texts have no class."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a text is more or less like others."""
        return None


def _references(label: Any, read: Callable[[np.ndarray], str]) -> tuple[str, ...]:
    """Texts that are right: the label's, or those that its tokens [T] or [R, T] stand for.

    Raises:
        DataError: the label is neither.
    """
    if isinstance(label, Reference):
        return label.texts
    if isinstance(label, str):
        return (label,)
    if isinstance(label, tuple) and label and all(isinstance(text, str) for text in label):
        return label
    array = np.asarray(label)
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or not array.size:
        raise DataError(f"a written text is compared with texts or tokens, this sample has {label!r:.60}", hint="name them in 'labels'")
    return tuple(read(row[row != IGNORED]) for row in np.atleast_2d(array))


def _reader(tokenizer: str | None, special: tuple[int, ...]) -> Callable[[np.ndarray], str]:
    """Return the function that makes a text of tokens [T]."""
    if tokenizer is None:
        return lambda tokens: " ".join(str(token) for token in tokens.tolist() if token not in special)
    loaded = _tokenizer(str(expand(tokenizer, Path())))
    return lambda tokens: str(loaded.decode(tokens.tolist(), skip_special_tokens=True))


@lru_cache(maxsize=4)
def _tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as problem:
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        raise DataError(
            f"{folder}: the tokenizer can't be loaded ({said[0]})", hint="tokenizer.save_pretrained(FOLDER) writes one"
        ) from problem
