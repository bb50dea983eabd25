"""CIFAR-10 residual networks with parameter-free shortcuts: the smallest networks whose int8 accuracy has a published float figure.

Reference: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2, shortcut option A.
Checkpoints: akamaster/pytorch_resnet_cifar10. Input float32 [N, 3, 32, 32], RGB,
(x/255 - mean) / std with mean (.485, .456, .406) and std (.229, .224, .225).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; where the shape changes, the shortcut subsamples and pads the channels with zeros."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.padding = (planes - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, planes, H/stride, W/stride]."""
        main = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.padding:
            x = pad(x, (0, 0, 0, 0, self.padding, self.padding))
        out: Tensor = self.relu2(main + x)
        return out


def stage(inputs: int, planes: int, stride: int, blocks: int) -> nn.Sequential:
    """`blocks` blocks of `planes` channels, of which the first subsamples by `stride`."""
    first = BasicBlock(inputs, planes, stride)
    return nn.Sequential(first, *(BasicBlock(planes, planes, 1) for _ in range(blocks - 1)))


class ResNetCifar(nn.Module):
    """Stem, three stages of 16, 32 and 64 channels with `blocks` blocks each, average pool, linear: depth = 6 * blocks + 2."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = stage(16, 16, 1, blocks)
        self.layer2 = stage(16, 32, 2, blocks)
        self.layer3 = stage(32, 64, 2, blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, 32, 32] to logits [N, 10]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        out: Tensor = self.linear(self.pool(x).flatten(1))
        return out


def resnet20() -> nn.Module:
    """ResNet-20: 0.27 M parameters, 41 M MACs."""
    return ResNetCifar(3)


def resnet32() -> nn.Module:
    """ResNet-32: 0.46 M parameters, 69 M MACs."""
    return ResNetCifar(5)


def resnet56() -> nn.Module:
    """ResNet-56: 0.85 M parameters, 125 M MACs."""
    return ResNetCifar(9)
