"""MobileNetV1 x0.25 at 96x96 for visual wake words, the MLPerf Tiny person detector.

Reference: Chowdhery et al. 2019, "Visual Wake Words Dataset"; Banbury et al. 2021, "MLPerf Tiny Benchmark".
Checkpoint: mlcommons/tiny, from Keras (hence eps 1e-3 and "SAME" padding). Input float32 [N, 3, 96, 96], RGB, x/255.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import pad

EPS = 1e-3
WIDTHS = (8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class Separable(nn.Module):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU; stride 2 pads only below and to the right."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.before = stride == 2
        self.dw = nn.Conv2d(inputs, inputs, 3, stride, padding=0 if self.before else 1, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs, eps=EPS)
        self.relu1 = nn.ReLU()
        self.pw = nn.Conv2d(inputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs, eps=EPS)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        if self.before:
            x = pad(x, (0, 1, 0, 1))
        x = self.relu1(self.bn1(self.dw(x)))
        out: Tensor = self.relu2(self.bn2(self.pw(x)))
        return out


class VwwMobileNet(nn.Module):
    """Stem, thirteen separable blocks, average pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, WIDTHS[0], 3, 2)
        self.bn0 = nn.BatchNorm2d(WIDTHS[0], eps=EPS)
        self.relu = nn.ReLU()
        shapes = zip(pairwise(WIDTHS), STRIDES, strict=True)
        self.blocks = nn.Sequential(*(Separable(inputs, outputs, stride) for (inputs, outputs), stride in shapes))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[-1], 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, 96, 96] to logits [N, 2]: no person, person."""
        x = pad(x, (0, 1, 0, 1))
        x = self.blocks(self.relu(self.bn0(self.conv0(x))))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


def vww_mobilenet() -> nn.Module:
    """MobileNetV1 x0.25 for two classes: 0.22 M parameters, 7.5 M MACs."""
    return VwwMobileNet()
