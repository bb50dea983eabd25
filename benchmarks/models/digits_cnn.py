"""A small convolutional network for 8x8 digits, so that the first command of the README needs no download.

It keeps 64 channels at full resolution, because a network without arithmetic gains nothing from int8.
Trained by `benchmarks/train_digits.py`. Input float32 [N, 1, 8, 8], grey values 0..16 divided by 16.
"""

from __future__ import annotations

from torch import Tensor, nn


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution with batch norm and ReLU that keeps height and width."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class DigitsCnn(nn.Module):
    """Three convolutions, average pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(convolution(1, 32), convolution(32, 64), convolution(64, 64))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 1, 8, 8] to logits [N, 10]."""
        out: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return out


def digits_cnn() -> nn.Module:
    """The digits network: 57 k parameters, 3.6 M MACs."""
    return DigitsCnn()
