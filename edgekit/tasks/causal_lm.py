"""Language models that predict the next token: likelihood and perplexity."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.algorithms.scores import finite, pick, softened_divergence
from edgekit.algorithms.sequences import IGNORED, places
from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError
from edgekit.core.plugin import Task

if TYPE_CHECKING:
    import torch

LOSS, TOKENS, HITS, DECISIONS = range(4)


class CausalLm(Task):
    """Likelihood of a token, the geometric mean over all predicted tokens, in percent: 100 / perplexity, so that higher is better.

    A sample is a text; its labels are its own tokens [L], -100 where nothing is to be predicted. The scores [L, vocabulary] at a place
    predict the label of the next place. Resampling draws whole texts, whose tokens belong together.
    """

    primary = "likelihood"
    dynamic_int8 = frozenset({"onnx", "tflite"})
    auto_class = "AutoModelForCausalLM"

    output: str | None = Field(None, description="Output with the scores of the next token; needed only where the model has several.")

    def loss(self, outputs: Mapping[str, torch.Tensor], labels: Sequence[Any]) -> torch.Tensor:
        """Mean cross-entropy of the next tokens.

        Raises:
            DataError: no labels, or another length than the outputs'.
        """
        import torch

        scores = outputs[pick(outputs, self.output)]
        truth = torch.from_numpy(places(labels, tuple(scores.shape))).to(scores.device)
        return torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), truth[:, 1:].flatten(), ignore_index=IGNORED)

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """Divergence of softened distributions of the next token, mean over all places (Hinton et al. 2015, arXiv:1503.02531)."""
        name = pick(taught, self.output)
        mine, theirs = ({name: values[name].flatten(0, 1)} for values in (outputs, taught))
        return softened_divergence(mine, theirs, name, temperature)

    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return summed negative log-likelihood in nats, predicted tokens, right ones, and a code for the choices: [N, 4].

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
        truth = places(labels, scores.shape)[:, 1:]
        return np.array([_of_text(finite(one[:-1], name), wanted) for one, wanted in zip(scores, truth, strict=True)], np.float64)

    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Likelihood and share of right tokens in percent; perplexity, where lower is better."""
        tokens = max(1.0, float(observations[:, TOKENS].sum()))
        loss = float(observations[:, LOSS].sum()) / tokens
        return {
            "likelihood": float(100 * np.exp(-loss)),
            "perplexity": float(np.exp(min(loss, 700.0))),
            "accuracy": 100 * float(observations[:, HITS].sum()) / tokens,
        }

    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """A number that changes when the likeliest token changes at any place of a text."""
        return observations[:, DECISIONS].astype(np.int64)

    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """None: texts have no class."""
        return None

    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """None: a text as a whole is neither right nor wrong."""
        return None


def _of_text(scores: np.ndarray, wanted: np.ndarray) -> tuple[float, float, float, float]:
    predicted = wanted != IGNORED
    scores, wanted = scores[predicted], wanted[predicted]
    if not len(wanted):
        return 0.0, 0.0, 0.0, 0.0
    shifted = scores - scores.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    chosen = scores.argmax(axis=1)
    loss = -logs[np.arange(len(wanted)), wanted].sum()
    return float(loss), float(len(wanted)), float((chosen == wanted).sum()), float(zlib.crc32(chosen.astype(np.int64).tobytes()))
