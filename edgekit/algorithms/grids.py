"""The integer grids that the formats' quantizers lay over weights: symmetric, as wide as the largest absolute weight on them.

A quantizer finds the grid from the weights. So weights that lie on a grid come back from it bit for bit, if the largest of each block
lies at its end; whoever rounds weights for a format keeps to that. A 4-bit scale has no more digits than fp16 holds, as in
:mod:`edgekit.algorithms.int4`.

Reference: Jacob et al. 2018 (arXiv:1712.05877).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Granularity = Literal["channel", "tensor", "group"]


@dataclass(frozen=True)
class WeightGrid:
    """How the weights of a layer share scales.

    Attributes:
        bits: of an integer; the lowest one is not used.
        granularity: one scale an output channel, a tensor, or a group of neighbouring input weights of an output channel.
        group: input weights in a group; for ``group`` only.
    """

    bits: int
    granularity: Granularity = "channel"
    group: int = 32

    @property
    def top(self) -> int:
        """Largest integer."""
        return int(2 ** (self.bits - 1)) - 1

    def fits(self, weight: torch.Tensor) -> bool:
        """Whether weights [O, ...] divide into groups."""
        return self.granularity != "group" or weight[0].numel() % self.group == 0

    def blocks(self, matrix: torch.Tensor) -> torch.Tensor:
        """View a matrix [O, D] as [blocks, weights of a block]; each block has one scale."""
        if self.granularity == "tensor":
            return matrix.reshape(1, -1)
        return matrix if self.granularity == "channel" else matrix.reshape(-1, self.group)

    def scales(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the scale of each weight of a matrix [O, D]; 1 where a block is all zero."""
        import torch

        blocks = self.blocks(matrix)
        steps = blocks.abs().amax(1, keepdim=True) / self.top
        if self.bits == 4:
            steps = steps.half().to(steps.dtype)
        return torch.where(steps > 0, steps, torch.ones_like(steps)).expand_as(blocks).reshape(matrix.shape)

    def nearest(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return a matrix [O, D] rounded to the nearest points of its grid."""
        scales = self.scales(matrix)
        return (matrix / scales).round().clamp(-self.top, self.top) * scales
