"""ResNet-8 for CIFAR-10, the MLPerf Tiny image classifier.

Reference: Banbury et al. 2021, "MLPerf Tiny Benchmark"; He et al. 2016, "Deep Residual Learning for Image Recognition".
Checkpoint: mlcommons/tiny, from Keras (hence eps 1e-3 and "SAME" padding). Input float32 [N, 3, 32, 32], RGB, 0..255 as it is.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

EPS = 1e-3


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a strided 1x1 convolution where the width changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wider = inputs != outputs
        stride = 2 if self.wider else 1
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=0 if self.wider else 1)
        self.bn1 = nn.BatchNorm2d(outputs, eps=EPS)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs, eps=EPS)
        self.short = nn.Conv2d(inputs, outputs, 1, stride) if self.wider else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        padded = pad(x, (0, 1, 0, 1)) if self.wider else x
        main = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(padded)))))
        out: Tensor = self.relu2(main + self.short(x))
        return out


class ResNet8(nn.Module):
    """Stem, three blocks of 16, 32 and 64 channels, average pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16, eps=EPS)
        self.relu = nn.ReLU()
        self.s1 = Block(16, 16)
        self.s2 = Block(16, 32)
        self.s3 = Block(32, 64)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, 32, 32] to logits [N, 10]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.s3(self.s2(self.s1(x)))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


def resnet8() -> nn.Module:
    """ResNet-8: 78 k parameters, 12.5 M MACs."""
    return ResNet8()
