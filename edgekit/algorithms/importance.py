"""How much a network would miss a channel or a weight, from its weights, gradients and activations.

Every function takes tensors whose first axis counts the channels in question (other axes: whatever belongs to each) and returns one
score a channel, or takes a matrix of weights and returns one score a weight. Higher means more important.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def group_norm(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """L2 norm of everything that goes when a channel goes, over all layers that it touches.

    Reference: Fang et al. 2023, "DepGraph: Towards Any Structural Pruning" (arXiv:2301.12900), section 3.3.

    Args:
        weights: one tensor [C, ...] for each layer that the channel touches.
    """
    import torch

    return torch.stack([w.double().reshape(len(w), -1).square().sum(1) for w in weights]).sum(0).sqrt()


def taylor(weights: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Squared first-order change of the loss when the weights that read a channel become zero, on one batch.

    Reference: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning" (arXiv:1906.10771), equation 8, with the weights
    that read a channel as the structure: what writes it is often followed by a batch norm, to whose input's scale the loss is blind.

    Args:
        weights: one tensor [C, ...] for each layer that reads the channel.
        gradients: the loss's, in the same order and shapes.
    """
    import torch

    terms = [(w.double() * g.double()).reshape(len(w), -1).sum(1) for w, g in zip(weights, gradients, strict=True)]
    return torch.stack(terms).sum(0).square()


def batch_norm_scale(scales: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean size of the batch-norm factors that a channel passes.

    Reference: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming" (arXiv:1708.06519).

    Args:
        scales: one tensor [C, ...] for each batch norm.
    """
    import torch

    return torch.stack([s.double().abs().reshape(len(s), -1).mean(1) for s in scales]).mean(0)


def contribution(weights: Sequence[torch.Tensor], power: Sequence[torch.Tensor]) -> torch.Tensor:
    """Root of the mean power that a channel brings to the layers that read it, as if its values were independent of each other.

    Needs no gradients. The structured form of Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models"
    (arXiv:2306.11695): size of the weights times that of what they are multiplied with.

    Args:
        weights: one tensor [C, K, ...] for each layer that reads the channel, K its values in one sample and place.
        power: mean square [C, K] of each of these values, in the same order.
    """
    import torch

    terms = [(w.double().reshape(*p.shape, -1).square().sum(2) * p.double()).sum(1) for w, p in zip(weights, power, strict=True)]
    return torch.stack(terms).sum(0).sqrt()


def wanda(weight: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Size of each weight times the norm of the input that it is multiplied with.

    Reference: Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models" (arXiv:2306.11695), equation 1.

    Args:
        weight: [O, I].
        norms: L2 norm [I] of each input over the calibration samples.
    """
    return weight.abs() * norms


def smallest_out(scores: torch.Tensor, share: float) -> torch.Tensor:
    """Mask that is False for the given share of smallest scores, over the whole tensor; of equal ones the first go.

    Args:
        scores: any shape.
        share: 0..1.
    """
    import torch

    count = round(scores.numel() * share)
    mask = torch.ones(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().argsort(stable=True)[:count]] = False
    return mask.view(scores.shape)


def smallest_out_of_rows(scores: torch.Tensor, share: float) -> torch.Tensor:
    """Mask that is False for the given share of smallest scores in each row.

    Args:
        scores: [O, I].
        share: 0..1.
    """
    import torch

    count = round(scores.shape[1] * share)
    mask = torch.ones_like(scores, dtype=torch.bool)
    return mask.scatter(1, scores.argsort(dim=1, stable=True)[:, :count], False)


def n_of_m(scores: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Mask that keeps the N largest of every M neighbours in a row.

    Reference: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (arXiv:2104.08378).

    Args:
        scores: [O, I], I a multiple of ``m``.
        n: how many stay.
        m: of how many.
    """
    import torch

    rows, columns = scores.shape
    if columns % m:
        raise ValueError(f"{columns} inputs can't be divided into groups of {m}")
    groups = scores.reshape(rows, columns // m, m)
    order = groups.argsort(dim=2, stable=True)
    return torch.ones_like(groups, dtype=torch.bool).scatter(2, order[:, :, : m - n], False).view(rows, columns)
