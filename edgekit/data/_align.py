"""Labels of parts of a text, laid over its tokens: which tokens an answer covers, and which word's tag a token bears."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.algorithms.sequences import IGNORED
from edgekit.core.datasets import Answers
from edgekit.core.errors import DataError
from edgekit.data._tokenize import Tokenize, settings

Spans = Callable[[Sequence[str], Sequence[str] | None, int], list[np.ndarray]]
"""First character and the one after the last of each token [L, 2] in the text, or in the second of a pair; -1 elsewhere."""


def open_spans(spec: Tokenize, folder: Path) -> Spans:
    """Load a tokenizer that tells which characters a token covers.

    Raises:
        DataError: the folder has no ``tokenizer.json``, which alone tells.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except Exception as problem:  # the library raises nothing more specific
        raise DataError(
            f"{folder}: tokenizer.json can't be read ({problem})", hint="save the tokenizer again with its fast version: AutoTokenizer"
        ) from problem
    config = settings(folder)
    tokenizer.enable_truncation(spec.length, direction=config.get("truncation_side", "right"))
    tokenizer.no_padding()
    left = config.get("padding_side") == "left"

    def spans(texts: Sequence[str], pairs: Sequence[str] | None, length: int) -> list[np.ndarray]:
        rows = tokenizer.encode_batch(list(texts) if pairs is None else list(zip(texts, pairs, strict=True)))
        found = []
        for row in rows:
            places = np.full((length, 2), -1, np.int64)
            first = length - len(row) if left else 0
            for place, (sequence, ends) in enumerate(zip(row.sequence_ids, row.offsets, strict=True), start=first):
                if sequence == (0 if pairs is None else 1):
                    places[place] = ends
            found.append(places)
        return found

    return spans


def answers(label: Any, passage: str, spans: np.ndarray, where: str) -> Answers:
    """Answers of one sample: a text, several, SQuAD's ``{text: [...]}``, or none.

    Raises:
        DataError: the label is none of these.
    """
    texts = label.get("text") if isinstance(label, dict) else label
    texts = [] if texts in (None, "") else [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where} has answers {label!r:.60}", hint="give a text, a list of texts, or {text: [...]} as SQuAD does")
    return Answers(tuple(texts), passage, spans)


def tags(label: Any, text: str, spans: np.ndarray, number: Callable[[Any], Any], where: str) -> np.ndarray:
    """Tag number of each token [L]: a word's tag at its first token, -100 at the others and outside the text.

    Args:
        label: a tag for each word, as a list or divided by spaces.
        text: words divided by spaces.
        spans: characters of each token [L, 2].
        number: turns a tag into its number.
        where: which sample, for messages.

    Raises:
        DataError: not one tag a word.
    """
    given = label.split() if isinstance(label, str) else label
    words = [match.start() for match in re.finditer(r"\S+", text)]
    if not isinstance(given, list) or len(given) != len(words):
        said = f"{len(given)} tags" if isinstance(given, list) else f"{label!r:.60}"
        raise DataError(f"{where} has {said} for {len(words)} words", hint="give one tag a word, words divided by spaces")
    numbers = [number(tag) for tag in given]
    found = np.full(len(spans), IGNORED, np.int64)
    tagged: set[int] = set()
    for place, (begin, end) in enumerate(spans):
        if begin < 0:
            continue
        begin = end - len(text[begin:end].lstrip())  # byte-level tokenizers count the space before a word as part of it
        word = int(np.searchsorted(words, begin, side="right")) - 1
        if begin < end and word not in tagged:
            tagged.add(word)
            found[place] = numbers[word]
    return found
