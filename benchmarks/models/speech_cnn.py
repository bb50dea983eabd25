"""A small separable network that tells spoken digits apart, in the manner of DS-CNN (Zhang et al. 2017, arXiv:1711.07128).

Input float32 [N, 40, 98], log mel. Output: logits [N, 10].
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

WIDTHS = (16, 32, 48, 64, 64)
STRIDES = (2, 1, 2, 1)


class Separable(nn.Sequential):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class SpeechCnn(nn.Module):
    """Stem, four separable blocks, average pool, linear."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, WIDTHS[0], 5, 2, 2, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
        blocks = (Separable(inputs, outputs, stride) for (inputs, outputs), stride in zip(pairwise(WIDTHS), STRIDES, strict=True))
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map mel bands [N, bands, frames] to logits [N, classes]."""
        out: Tensor = self.fc(self.pool(self.blocks(self.stem(x.unsqueeze(1)))).flatten(1))
        return out


def speech_cnn(classes: int = 10) -> nn.Module:
    """The network with untrained weights."""
    return SpeechCnn(classes)
