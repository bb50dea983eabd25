"""Language models that fill gaps: how often the missing token is the likeliest, and how likely it is."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.metrics import label_ranks
from edgekit.algorithms.scores import finite, pick, softened_divergence
from edgekit.algorithms.sequences import IGNORED, places
from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError
from edgekit.core.figures import Draw, Figures
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

GAPS, FIRST, FIVE, LOSS, DECISIONS = range(5)
"""Gaps of a text; those whose token is the likeliest, and among the five likeliest; summed loss in nats; a code for the choices."""


class FillMask(Task):
    """Share of gaps whose token is the likeliest (``top1``) or among the five likeliest, in percent, and perplexity, where lower is better.

    A sample is a text with gaps; its labels are the missing tokens [L], -100 everywhere else. Resampling draws whole texts.
    """

    primary = "top1"
    dynamic_int8 = frozenset({"onnx", "tflite"})
    auto_class = "AutoModelForMaskedLM"

    output: str | None = Field(None, description="Output with the tokens' scores; needed only where the model has several.")

    def loss(self, outputs: Mapping[str, torch.Tensor], labels: Sequence[Any]) -> torch.Tensor:
        """Mean cross-entropy of the missing tokens.

        Raises:
            DataError: no labels, or another length than the outputs'.
        """
        import torch

        scores = outputs[pick(outputs, self.output)]
        truth = torch.from_numpy(places(labels, tuple(scores.shape))).to(scores.device)
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), truth.flatten(), ignore_index=IGNORED)

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """Divergence of softened distributions of the tokens, mean over all places (Hinton et al. 2015, arXiv:1503.02531)."""
        name = pick(taught, self.output)
        mine, theirs = ({name: values[name].flatten(0, 1)} for values in (outputs, taught))
        return softened_divergence(mine, theirs, name, temperature)

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return gaps, right ones at the first and within five, summed loss, and a code for the choices: [N, 5].

        Raises:
            DataError: outputs that are no scores of tokens, or labels that don't fit them.
        """
        name = pick(outputs, self.output)
        scores = np.asarray(outputs[name])
        if scores.ndim != 3 or len(scores) != len(labels):
            raise DataError(
                f"output {name!r} is {list(scores.shape)}, a language model gives [{len(labels)}, length, vocabulary]",
                hint="choose another output or task; task: generic compares any outputs",
            )
        pairs = zip(scores, places(labels, scores.shape), strict=True)
        return np.array([_row(finite(one[wanted != IGNORED], name), wanted[wanted != IGNORED]) for one, wanted in pairs])

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Share of right gaps in percent, and perplexity."""
        gaps, first, five, loss = observations[:, :DECISIONS].sum(axis=0)
        gaps = max(gaps, 1.0)
        return {"top1": 100 * float(first / gaps), "top5": 100 * float(five / gaps), "perplexity": float(np.exp(min(loss / gaps, 700.0)))}

    def figures(self, observations: np.ndarray) -> Draw:
        """Share of right gaps in a draw of texts."""
        gaps, first = observations[:, GAPS], observations[:, FIRST]
        return lambda counts: Figures(100 * float(counts @ first) / max(1.0, float(counts @ gaps)))

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number that changes when the likeliest token of any gap does."""
        return observations[:, DECISIONS].astype(np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: texts have no class."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a text as a whole is neither right nor wrong."""
        return None


def _row(scores: np.ndarray, wanted: np.ndarray) -> list[float]:
    if not len(wanted):
        return [0.0] * 5
    ranks = label_ranks(scores, wanted)
    shifted = scores - scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(wanted)), wanted]
    code = zlib.crc32(scores.argmax(axis=1).astype(np.int64).tobytes())
    return [float(len(wanted)), float((ranks < 1).sum()), float((ranks < 5).sum()), float(losses.sum()), float(code)]
