"""DS-CNN for keyword spotting, the MLPerf Tiny network for a microphone's MFCC frames.

Reference: Zhang et al. 2017, "Hello Edge: Keyword Spotting on Microcontrollers"; Banbury et al. 2021, "MLPerf Tiny Benchmark".
Checkpoint: mlcommons/tiny, from Keras (hence eps 1e-3 and "SAME" padding). Input float32 [N, 1, 49, 10]: 49 frames of 10 MFCC coefficients.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

EPS = 1e-3


class Separable(nn.Module):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.bn1 = nn.BatchNorm2d(channels, eps=EPS)
        self.relu1 = nn.ReLU()
        self.pw = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels, eps=EPS)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to the same shape."""
        x = self.relu1(self.bn1(self.dw(x)))
        out: Tensor = self.relu2(self.bn2(self.pw(x)))
        return out


class DsCnn(nn.Module):
    """A 10x4 convolution over time and frequency, four separable blocks, average pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, 64, (10, 4), 2)
        self.bn0 = nn.BatchNorm2d(64, eps=EPS)
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential(*(Separable(64) for _ in range(4)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Map MFCC frames [N, 1, 49, 10] to logits [N, 12]."""
        x = pad(x, (1, 1, 4, 5))
        x = self.blocks(self.relu(self.bn0(self.conv0(x))))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


def ds_cnn() -> nn.Module:
    """DS-CNN: 24 k parameters, 2.7 M MACs."""
    return DsCnn()
