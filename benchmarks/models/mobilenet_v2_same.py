"""MobileNetV2 with TensorFlow's "SAME" padding and batch norm folded away: Coral's int8 network, de-quantized to float.

Its weights lie on an int8 grid already, so it tests activation quantization, pruning and latency, not weight error.
Reference: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks".
Weights: google-coral/test_data. Input float32 [N, 3, 224, 224], RGB, x/127.5 - 1.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import pad

# Expansion, output channels, repeats, stride of the first: table 2 of the paper.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class Convolution(nn.Module):
    """A convolution with bias, padded as TensorFlow pads even sizes: at stride 2 only below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu6: bool = True) -> None:
        super().__init__()
        self.before = stride == 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=0 if self.before else kernel // 2, groups=groups)
        self.activation = nn.ReLU6() if relu6 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        if self.before:
            x = pad(x, (0, 1, 0, 1))
        out: Tensor = self.activation(self.conv(x))
        return out


class InvertedResidual(nn.Module):
    """Expand 1x1 (absent where the expansion is 1), depthwise 3x3, project 1x1 without activation."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        layers = [Convolution(inputs, width, 1)] if expansion != 1 else []
        layers += [Convolution(width, width, 3, stride, groups=width), Convolution(width, outputs, 1, relu6=False)]
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        out: Tensor = self.block(x)
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """Stem, seventeen inverted residuals, a 1x1 convolution to 1280 channels, average pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [Convolution(3, 32, 3, 2)]
        rows = [(expansion, outputs, stride if i == 0 else 1) for expansion, outputs, repeats, stride in STAGES for i in range(repeats)]
        widths = [32, *(outputs for _, outputs, _ in rows)]
        layers += [InvertedResidual(a, b, expansion, stride) for (a, b), (expansion, _, stride) in zip(pairwise(widths), rows, strict=True)]
        layers.append(Convolution(320, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, 224, 224] to logits [N, 1000]."""
        out: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return out


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 of width 1.0: 3.5 M parameters, 301 M MACs."""
    return MobileNetV2()
