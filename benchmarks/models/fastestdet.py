"""FastestDet: a small anchor-free detector with one grid of 22 x 22 cells, for COCO's 80 classes.

Reference: dog-qiuqiu/FastestDet (BSD-3-Clause); its backbone is ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164).
Input float32 [N, 3, 352, 352], BGR, x/255. Output [N, 85, 22, 22]: objectness (probability), box (raw), classes (probabilities).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STAGES = {"stage2": (24, 48, 4), "stage3": (48, 96, 8), "stage4": (96, 192, 4)}
WIDTH, CLASSES = 96, 80


def conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True) -> list[nn.Module]:
    """A convolution without bias that keeps the size, with batch norm and, if asked, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return [*layers, nn.ReLU()] if relu else layers


class Unit(nn.Module):
    """ShuffleNetV2's unit; the shuffle stands at its beginning: even channels pass, odd ones go through the branch."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // 2
        self.branch_main = nn.Sequential(
            *conv(inputs, middle, 1),
            *conv(middle, middle, 3, stride=stride, groups=middle, relu=False),
            *conv(middle, outputs - inputs, 1),
        )
        self.branch_proj = (
            nn.Sequential(*conv(inputs, inputs, 3, stride=2, groups=inputs, relu=False), *conv(inputs, inputs, 1)) if stride == 2 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, outputs, H/stride, W/stride]."""
        if self.branch_proj is not None:
            return torch.cat([self.branch_proj(x), self.branch_main(x)], dim=1)
        pairs = x.unflatten(1, (x.shape[1] // 2, 2))
        return torch.cat([pairs[:, :, 0], self.branch_main(pairs[:, :, 1])], dim=1)


class Backbone(nn.Module):
    """Stem and three stages."""

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(*conv(3, 24, 3, stride=2))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for name, (inputs, outputs, repeats) in STAGES.items():
            units = [Unit(outputs // 2, outputs, 1) for _ in range(repeats - 1)]
            self.add_module(name, nn.Sequential(Unit(inputs, outputs, 2), *units))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at 1/8, 1/16 and 1/32 of the picture."""
        first = self.get_submodule("stage2")(self.maxpool(self.first_conv(x)))
        second = self.get_submodule("stage3")(first)
        return first, second, self.get_submodule("stage4")(second)


class Conv1x1(nn.Module):
    """A pointwise convolution under the checkpoint's name."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Sequential(*conv(inputs, WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, 96, H, W]."""
        out: Tensor = self.conv1x1(x)
        return out


class Pyramid(nn.Module):
    """One, two and three depthwise 5x5 convolutions side by side, joined and added to their input."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv1x1 = Conv1x1(STAGES["stage2"][1] + STAGES["stage3"][1] + STAGES["stage4"][1])
        for depth in (1, 2, 3):
            self.add_module(f"S{depth}", nn.Sequential(*(layer for _ in range(depth) for layer in conv(WIDTH, WIDTH, 5, groups=WIDTH))))
        self.output = nn.Sequential(*conv(3 * WIDTH, WIDTH, 1, relu=False))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, 336, H, W] to [N, 96, H, W]."""
        x = self.Conv1x1(x)
        scales = torch.cat([self.get_submodule(f"S{depth}")(x) for depth in (1, 2, 3)], dim=1)
        out: Tensor = self.relu(x + self.output(scales))
        return out


class Branch(nn.Module):
    """A depthwise 5x5 and a pointwise convolution."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv5x5 = nn.Sequential(*conv(WIDTH, WIDTH, 5, groups=WIDTH), *conv(WIDTH, outputs, 1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, 96, H, W] to [N, outputs, H, W]."""
        out: Tensor = self.conv5x5(x)
        return out


class DetectHead(nn.Module):
    """Objectness, box and classes of each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1x1 = Conv1x1(WIDTH)
        self.obj_layers = Branch(1)
        self.reg_layers = Branch(4)
        self.cls_layers = Branch(CLASSES)
        self.sigmoid = nn.Sigmoid()
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, 96, H, W] to [N, 85, H, W]."""
        x = self.conv1x1(x)
        return torch.cat([self.sigmoid(self.obj_layers(x)), self.reg_layers(x), self.softmax(self.cls_layers(x))], dim=1)


class FastestDet(nn.Module):
    """Backbone, features of three scales brought to one, pyramid, head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.avg_pool = nn.AvgPool2d(3, 2, 1)
        self.SPP = Pyramid()
        self.detect_head = DetectHead()

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, 352, 352] to the raw head [N, 85, 22, 22]."""
        first, second, third = self.backbone(x)
        out: Tensor = self.detect_head(self.SPP(torch.cat([self.avg_pool(first), second, self.upsample(third)], dim=1)))
        return out


def fastestdet() -> nn.Module:
    """FastestDet for 80 classes: 0.24 M parameters."""
    return FastestDet()
