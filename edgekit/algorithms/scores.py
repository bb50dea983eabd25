"""Class scores out of a model's outputs, checked against labels; shared by the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError, closest

if TYPE_CHECKING:
    import torch


def pick(outputs: Mapping[str, Any], name: str | None) -> str:
    """Name of the output that counts: the named one, or the only one.

    Raises:
        DataError: no such output, or several and none named.
    """
    if name is not None:
        if name not in outputs:
            raise DataError(f"the model has no output {name!r}", hint=closest(name, outputs))
        return name
    if len(outputs) != 1:
        raise DataError(
            f"the model has {len(outputs)} outputs ({', '.join(outputs)})",
            hint=f"say which counts: task option 'output: {next(iter(outputs), '')}'",
        )
    return next(iter(outputs))


def class_scores(outputs: Batch, name: str | None, samples: int) -> np.ndarray:
    """Scores [N, classes] in float64.

    Raises:
        DataError: another shape, another number of samples, fewer than two classes, or NaN.
    """
    output = pick(outputs, name)
    scores = np.asarray(outputs[output])
    if scores.ndim != 2 or scores.shape[0] != samples or scores.shape[1] < 2:
        raise DataError(
            f"output {output!r} is {list(scores.shape)}, a classifier gives [{samples}, classes] for {samples} samples",
            hint="choose another output or task; task: generic compares any outputs",
        )
    return finite(scores, output)


def finite(values: np.ndarray, name: str) -> np.ndarray:
    """The values in float64.

    Raises:
        DataError: NaN or infinite values.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            f"output {name!r} holds NaN or infinite values", hint="the model overflows: try a wider precision, or look at its weights"
        )
    return values


def class_indices(labels: Sequence[Any], classes: int) -> np.ndarray:
    """Labels as int64 [N].

    Raises:
        DataError: no label, no whole number, or a class that the model does not have.
    """
    for label in labels:
        if label is None:
            raise DataError("the evaluation set has no labels, this task needs them", hint="give the set labels, or use task: generic")
        if isinstance(label, bool) or not isinstance(label, int | np.integer):
            raise DataError(f"label {label!r} is no class index", hint="list the set's 'classes', or set 'first_label'")
        if not 0 <= label < classes:
            raise DataError(
                f"label {label} is beyond the model's {classes} classes (0 to {classes - 1})", hint="is this set meant for this model?"
            )
    return np.asarray(labels, np.int64)


def cross_entropy(outputs: Mapping[str, torch.Tensor], name: str | None, labels: Sequence[Any]) -> torch.Tensor:
    """Mean cross-entropy of class scores [N, classes] against labels.

    Raises:
        DataError: no such output, no labels, or one beyond the classes.
    """
    import torch

    scores = outputs[pick(outputs, name)]
    truth = torch.from_numpy(class_indices(labels, scores.shape[1])).to(scores.device)
    return torch.nn.functional.cross_entropy(scores, truth)


def softened_divergence(
    outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], name: str | None, temperature: float
) -> torch.Tensor:
    """Divergence of a student's class distribution from its teacher's, both softened, times the temperature's square.

    Reference: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), section 2.
    """
    from torch.nn import functional

    output = pick(taught, name)
    mine = functional.log_softmax(outputs[output] / temperature, dim=-1)
    theirs = functional.log_softmax(taught[output] / temperature, dim=-1)
    return functional.kl_div(mine, theirs, log_target=True, reduction="batchmean") * temperature**2


PAIRINGS = 32
"""Samples whose noise is laid on each sample's scores."""


def likely_losses(scores: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Percent of the right predictions that each sample's scores [N, C] are likely to lose, if the original's probabilities are the truth.

    A prediction that changes between two classes that are almost as likely costs almost nothing; one that leaves a sure class costs all
    of it. It is a share, since samples without labels may be foreign to the classes, and little is sure of them. Each sample is judged
    with its own error and with those of up to 31 others, for which of them it met was chance: so few samples tell as much as many.
    """
    noise = np.nan_to_num(scores.astype(np.float64) - original, nan=0.0, posinf=0.0, neginf=0.0)
    broken = ~np.isfinite(scores).all(axis=1)
    shifted = np.exp(original - original.max(axis=1, keepdims=True))
    chances = shifted / shifted.sum(axis=1, keepdims=True)
    best, rows = chances.max(axis=1), np.arange(len(chances))
    losses = [
        np.where(np.roll(broken, turn), best, best - chances[rows, (original + np.roll(noise, turn, axis=0)).argmax(axis=1)])
        for turn in range(min(PAIRINGS, len(chances)))
    ]
    return np.asarray(100 * np.mean(losses, axis=0) / best.mean())
