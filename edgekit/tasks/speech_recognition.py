"""Speech as text, read from the path of a CTC network (wav2vec2): word and character error rate."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.scores import finite, pick, softened_divergence
from edgekit.algorithms.text_overlap import edits
from edgekit.algorithms.transcripts import collapsed
from edgekit.core.artifacts import Batch
from edgekit.core.datasets import Reference
from edgekit.core.errors import DataError
from edgekit.core.figures import Draw, Figures
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

WORD_ERRORS, WORDS, ERRORS, CHARACTERS, DECISIONS = range(5)


class SpeechRecognition(Task):
    """Word error rate (``wer``) and character error rate (``cer``), in percent, where lower is better.

    What budgets speak of is ``word_accuracy``, 100 minus the word error rate and not below 0, so that higher is better. The network gives
    scores [N, T, tokens]; its path is read greedily. Resampling draws whole recordings.
    """

    primary = "word_accuracy"
    dynamic_int8 = frozenset({"onnx", "tflite"})
    auto_class = "AutoModelForCTC"

    characters: tuple[str, ...] = Field(
        (), description="Text of each token in the network's order, '' for one without text; without them tokens are words of their own."
    )
    blank: int = Field(0, ge=0, description="Token that stands between characters; wav2vec2's padding.")
    ignore_case: bool = Field(True, description="Compare in lower case.")
    output: str | None = Field(None, description="Output with the tokens' scores; needed only where the model has several.")

    def loss(self, outputs: Mapping[str, torch.Tensor], labels: Sequence[Any]) -> torch.Tensor:
        """Mean CTC loss of a character (Graves et al. 2006).

        Raises:
            DataError: no transcripts, or one with a character that the network can't write.
        """
        import torch

        scores = outputs[pick(outputs, self.output)]
        written = [self._tokens(texts[0]) for texts in _texts(labels)]
        lengths = [torch.tensor(sizes) for sizes in ([scores.shape[1]] * len(written), [len(tokens) for tokens in written])]
        path = scores.log_softmax(-1).transpose(0, 1)
        targets = torch.tensor([token for tokens in written for token in tokens], dtype=torch.long, device=scores.device)
        return torch.nn.functional.ctc_loss(path, targets, lengths[0], lengths[1], blank=self.blank, zero_infinity=True)

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """Divergence of softened distributions of the tokens, mean over all times (Hinton et al. 2015, arXiv:1503.02531)."""
        name = pick(taught, self.output)
        mine, theirs = ({name: values[name].flatten(0, 1)} for values in (outputs, taught))
        return softened_divergence(mine, theirs, name, temperature)

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return errors in words, words, errors in characters, characters, and a code for the transcript: [N, 5].

        Raises:
            DataError: outputs that are no scores of tokens, or labels that are no transcripts.
        """
        name = pick(outputs, self.output)
        scores = np.asarray(outputs[name])
        if scores.ndim != 3 or len(scores) != len(labels) or (self.characters and scores.shape[2] != len(self.characters)):
            raise DataError(
                f"output {name!r} is {list(scores.shape)}, a CTC network gives [{len(labels)}, time, {len(self.characters) or 'tokens'}]",
                hint="choose another output, or name every token's text in 'characters'",
            )
        paths = finite(scores, name).argmax(axis=2)
        return np.array([self._row(self._read(path), texts) for path, texts in zip(paths, _texts(labels), strict=True)])

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Error rates of all recordings together, in percent."""
        word_errors, words, errors, characters = observations[:, :DECISIONS].sum(axis=0)
        wer = 100 * float(word_errors / max(words, 1.0))
        return {"word_accuracy": max(0.0, 100 - wer), "wer": wer, "cer": 100 * float(errors / max(characters, 1.0))}

    def figures(self, observations: np.ndarray) -> Draw:
        """Word accuracy of a draw of recordings."""
        errors, words = observations[:, WORD_ERRORS], observations[:, WORDS]
        return lambda counts: Figures(max(0.0, 100 - 100 * float(counts @ errors) / max(1.0, float(counts @ words))))

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number that changes when the transcript does."""
        return observations[:, DECISIONS].astype(np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: recordings have no class."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: transcripts are right by degrees."""
        return None

    def _read(self, path: np.ndarray) -> str:
        tokens = collapsed(path, self.blank)
        return "".join(self.characters[token] for token in tokens) if self.characters else " ".join(map(str, tokens))

    def _row(self, written: str, right: Sequence[str]) -> list[float]:
        """Counts against the transcript that is nearest."""
        rows = []
        for text in right:
            mine, theirs = ((side.lower() if self.ignore_case else side).split() for side in (written, text))
            letters, wanted = " ".join(mine), " ".join(theirs)
            rows.append([edits(mine, theirs), len(theirs), edits(letters, wanted), len(wanted)])
        nearest = min(rows, key=lambda row: (row[0] / max(row[1], 1), row[2]))
        return [*map(float, nearest), float(zlib.crc32(written.encode()))]

    def _tokens(self, text: str) -> list[int]:
        """The tokens that write a text, character by character."""
        if not self.characters:
            return [int(word) for word in text.split()]
        known = {(name.lower() if self.ignore_case else name): place for place, name in enumerate(self.characters) if name}
        plain = " ".join((text.lower() if self.ignore_case else text).split())
        if missing := sorted(set(plain) - set(known)):
            raise DataError(
                f"the network can't write {missing[0]!r} of {text!r:.60}", hint="name it in 'characters', or clean the transcripts"
            )
        return [known[character] for character in plain]


def _texts(labels: Sequence[Any]) -> list[tuple[str, ...]]:
    for label in labels:
        if not isinstance(label, Reference) or not label.texts:
            said = "none" if label is None else f"{label!r:.60}"
            raise DataError(
                f"speech is compared with transcripts, this recording has {said}", hint="read them with {use: audio, transcripts: FILE}"
            )
    return [label.texts for label in labels]
