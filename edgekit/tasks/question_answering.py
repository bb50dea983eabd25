"""Answers quoted from a passage: exact match and F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms import answers
from edgekit.algorithms.scores import finite, pick, softened_divergence
from edgekit.core.artifacts import Batch
from edgekit.core.datasets import Answers
from edgekit.core.errors import DataError
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

F1, EXACT, FIRST, LAST = range(4)


class QuestionAnswering(Task):
    """Mean F1 of the answers' words, and share of answers that match exactly (``exact_match``), in percent.

    The model gives each token's score as the first and as the last of the answer, [N, L] each.
    """

    primary = "f1"
    dynamic_int8 = frozenset({"onnx", "tflite"})
    auto_class = "AutoModelForQuestionAnswering"

    start: str = Field("start_logits", description="Output with the scores of first tokens.")
    end: str = Field("end_logits", description="Output with the scores of last tokens.")
    longest: int = Field(30, ge=1, description="Tokens of an answer at most.")
    may_refuse: bool = Field(False, description="Whether the first token (CLS) stands for no answer, as in SQuAD 2.0.")

    def loss(self, outputs: Mapping[str, torch.Tensor], labels: Sequence[Any]) -> torch.Tensor:
        """Mean cross-entropy of first and last token; the first of all tokens where the passage, as far as it was read, does not answer.

        Raises:
            DataError: no answers.
        """
        import torch

        wanted = torch.tensor([_tokens(label) for label in _answers(labels)])
        scores = [outputs[name] for name in (self.start, self.end)]
        losses = [torch.nn.functional.cross_entropy(side, wanted[:, place].to(side.device)) for place, side in enumerate(scores)]
        return (losses[0] + losses[1]) / 2

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """Divergence of softened distributions of first and last tokens (Hinton et al. 2015, arXiv:1503.02531)."""
        sides = [softened_divergence(outputs, taught, name, temperature) for name in (self.start, self.end)]
        return (sides[0] + sides[1]) / 2

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return F1 and exactness in percent, first and last token of the answer, -1 for none: [N, 4].

        Raises:
            DataError: outputs that are no scores of tokens, or labels that don't fit them.
        """
        starts, ends = (finite(outputs[pick(outputs, name)], name) for name in (self.start, self.end))
        right = _answers(labels)
        if (
            starts.ndim != 2
            or starts.shape != ends.shape
            or len(starts) != len(right)
            or any(len(r.spans) != starts.shape[1] for r in right)
        ):
            raise DataError(
                f"outputs {self.start!r} {list(starts.shape)} and {self.end!r} {list(ends.shape)} don't fit {len(right)} passages",
                hint="the model gives one score a token, [N, L], for each token of its input",
            )
        return np.array([self._row(*sample) for sample in zip(starts, ends, right, strict=True)])

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """F1 and exact match in percent."""
        return {"f1": float(observations[:, F1].mean()), "exact_match": float(observations[:, EXACT].mean())}

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number for the span of each answer."""
        return np.asarray((observations[:, FIRST] + 1) * 100_000 + observations[:, LAST] + 1, np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: questions have no class."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: answers are right by degrees."""
        return None

    def _row(self, starts: np.ndarray, ends: np.ndarray, right: Answers) -> list[float]:
        first, last, score = answers.best_span(starts, ends, right.spans[:, 0] >= 0, self.longest)
        if self.may_refuse and starts[0] + ends[0] > score:
            first = last = -1
        said = right.passage[right.spans[first, 0] : right.spans[last, 1]] if first >= 0 else ""
        return [100 * answers.f1(said, right.texts), 100 * answers.exact(said, right.texts), float(first), float(last)]


def _tokens(label: Answers) -> tuple[int, int]:
    """First and last token of the first right answer; 0 and 0 where it is not in the passage's tokens."""
    begin = label.passage.find(label.texts[0]) if label.texts else -1
    if begin < 0:
        return 0, 0
    end = begin + len(label.texts[0])
    within = np.flatnonzero((label.spans[:, 0] >= 0) & (label.spans[:, 1] > begin) & (label.spans[:, 0] < end))
    whole = len(within) and label.spans[within[0], 0] <= begin and label.spans[within[-1], 1] >= end
    return (int(within[0]), int(within[-1])) if whole else (0, 0)


def _answers(labels: Sequence[Any]) -> list[Answers]:
    for label in labels:
        if not isinstance(label, Answers):
            said = "none" if label is None else f"{label!r:.60}"
            raise DataError(f"a question's label is its answers and the passage they stand in, this one has {said}", hint="see 'answers'")
    return list(labels)
