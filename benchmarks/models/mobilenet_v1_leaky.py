"""MobileNetV1 x0.25 with LeakyReLU, trained on ImageNet: the honest hard case, whose plain int8 loses a third of its accuracy.

Reference: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications".
Checkpoint: the backbone of bubbliiiing/retinaface-pytorch. Input float32 [N, 3, 224, 224], RGB,
(x/255 - mean) / std with mean (.485, .456, .406) and std (.229, .224, .225).
"""

from __future__ import annotations

from torch import Tensor, nn

SLOPE = 0.1


def stem(outputs: int) -> nn.Sequential:
    """A 3x3 convolution that halves height and width."""
    return nn.Sequential(nn.Conv2d(3, outputs, 3, 2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE))


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and LeakyReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(SLOPE),
    )


class MobileNetV1Leaky(nn.Module):
    """Thirteen separable blocks in three stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            stem(8),
            separable(8, 16, 1),
            separable(16, 32, 2),
            separable(32, 32, 1),
            separable(32, 64, 2),
            separable(64, 64, 1),
        )
        self.stage2 = nn.Sequential(separable(64, 128, 2), *(separable(128, 128, 1) for _ in range(5)))
        self.stage3 = nn.Sequential(separable(128, 256, 2), separable(256, 256, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(256, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, 224, 224] to logits [N, 1000]."""
        x = self.stage3(self.stage2(self.stage1(x)))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


def mobilenet_v1_x025() -> nn.Module:
    """MobileNetV1 of width 0.25: 0.47 M parameters, 41 M MACs."""
    return MobileNetV1Leaky()
