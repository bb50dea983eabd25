"""Speech as text, written by an encoder-decoder (Whisper): word and character error rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from edgekit.algorithms.text_overlap import edits, rouge_words
from edgekit.tasks._written import WrittenText


class Transcription(WrittenText):
    """Word error rate (WER): fewest insertions, deletions and substitutions of words, as a share of the reference's words.

    What budgets speak of is ``word_accuracy``, 100 minus the WER, and not below 0, so that higher is better.
    """

    primary = "word_accuracy"
    auto_class = "AutoModelForSpeechSeq2Seq"

    compare: Literal["as written", "words"] = Field(
        "words", description="Compare words of Latin letters and digits in lower case, or texts as they are written."
    )

    def counts(self, written: str, references: Sequence[str]) -> np.ndarray:
        """Errors in words and in characters, each with the length of the reference that is closest [4]."""
        return min((self._pair(written, reference) for reference in references), key=lambda row: (row[0] / max(row[1], 1), row[2]))

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Error rates of all texts together, in percent."""
        word_errors, words, errors, characters = observations[:, :4].sum(axis=0)
        wer = 100 * float(word_errors / max(words, 1))
        return {"word_accuracy": max(0.0, 100 - wer), "wer": wer, "cer": 100 * float(errors / max(characters, 1))}

    def _pair(self, written: str, reference: str) -> np.ndarray:
        mine, theirs = (text.split() if self.compare == "as written" else rouge_words(text) for text in (written, reference))
        letters, wanted = " ".join(mine), " ".join(theirs)
        return np.array([edits(mine, theirs), len(theirs), edits(letters, wanted), len(wanted)], np.float64)
