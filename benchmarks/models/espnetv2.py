"""ESPNetv2 for semantic segmentation, width 1.0, Pascal VOC's 21 classes at 384 x 384.

Reference: Mehta et al. 2019, "ESPNetv2" (arXiv:1811.11431); sacmehta/EdgeNets (MIT), whose checkpoint and names these are.
Input float32 [N, 3, 384, 384], RGB, ImageNet mean and deviation. Output: class scores [N, 21, 384, 384].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SIDE, CLASSES = 384, 21
GROUPS, DECODED, PROJECTED = 4, (64, 48, 32, CLASSES), 10
SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
SMALLEST = 5


class Conv(nn.Module):
    """A convolution without bias that keeps the size (but for its stride), with batch norm and PReLU unless it is bare."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        bare: bool = False,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 * dilation, dilation, groups, bias=False)
        self.bn = None if bare else nn.BatchNorm2d(outputs)
        self.act = nn.PReLU(outputs) if act and not bare else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        x = self.conv(x)
        x = x if self.bn is None else self.bn(x)
        return x if self.act is None else self.act(x)


class Norm(nn.Module):
    """Batch norm and PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to itself."""
        out: Tensor = self.act(self.bn(x))
        return out


class Pyramid(nn.Module):
    """EESP: depthwise convolutions of growing dilation side by side, each added to the one before."""

    def __init__(self, inputs: int, outputs: int, reach: int, *, stride: int = 1) -> None:
        super().__init__()
        width = outputs // GROUPS
        reaches = sorted(size if size <= reach else 3 for size in range(3, 3 + 2 * GROUPS, 2))
        self.proj_1x1 = Conv(inputs, width, 1, groups=GROUPS)
        self.spp_dw = nn.ModuleList(
            Conv(width, width, 3, stride=stride, groups=width, dilation=(size - 1) // 2, bare=True) for size in reaches
        )
        self.br_after_cat = Norm(outputs)
        self.conv_1x1_exp = Conv(outputs, outputs, 1, groups=GROUPS, act=False)
        self.module_act = nn.PReLU(outputs)
        self.halves = stride == 2

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        narrow = self.proj_1x1(x)
        scales = [self.spp_dw[0](narrow)]
        for branch in list(self.spp_dw)[1:]:
            scales.append(branch(narrow) + scales[-1])
        out: Tensor = self.conv_1x1_exp(self.br_after_cat(torch.cat(scales, dim=1)))
        return out if self.halves else self.module_act(out + x)


class Halving(nn.Module):
    """Half the size: average pooling beside a pyramid, reinforced by the picture itself."""

    def __init__(self, inputs: int, outputs: int, reach: int, times: int) -> None:
        super().__init__()
        self.eesp = Pyramid(inputs, outputs - inputs, reach, stride=2)
        self.avg = nn.AvgPool2d(3, 2, 1)
        self.shrink = nn.Sequential(*(nn.AvgPool2d(3, 2, 1) for _ in range(times)))
        self.inp_reinf = nn.Sequential(Conv(3, 3, 3), Conv(3, outputs, 1, act=False))
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor, picture: Tensor) -> Tensor:
        """Map features [N, inputs, H, W] and the picture to [N, outputs, H/2, W/2]."""
        halved = torch.cat([self.avg(x), self.eesp(x)], dim=1)
        out: Tensor = self.act(halved + self.inp_reinf(self.shrink(picture)))
        return out


class Encoder(nn.Module):
    """Features at 1/2, 1/4, 1/8 and 1/16 of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.level1 = Conv(3, 32, 3, stride=2)
        self.level2_0 = Halving(32, 64, 13, 2)
        self.level3_0 = Halving(64, 128, 11, 3)
        self.level3 = nn.Sequential(*(Pyramid(128, 128, 9) for _ in range(3)))
        self.level4_0 = Halving(128, 256, 9, 4)
        self.level4 = nn.Sequential(*(Pyramid(256, 256, 7) for _ in range(7)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map a picture [N, 3, H, W] to its features, the largest first."""
        first = self.level1(x)
        second = self.level2_0(first, x)
        third = self.level3(self.level3_0(second, x))
        return first, second, third, self.level4(self.level4_0(third, x))


class Block(nn.Module):
    """Layers under one of the checkpoint's names: a convolution with batch norm and PReLU (``cbr``), or the latter two (``br``)."""

    def __init__(self, name: str, *layers: nn.Module) -> None:
        super().__init__()
        self.add_module(name, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers."""
        for layers in self.children():
            x = layers(x)
        return x


def cbr(inputs: int, outputs: int, kernel: int, groups: int = 1) -> Block:
    """Convolution, batch norm, PReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return Block("cbr", conv, nn.BatchNorm2d(outputs), nn.PReLU(outputs))


def br(channels: int) -> Block:
    """Batch norm, PReLU."""
    return Block("br", nn.BatchNorm2d(channels), nn.PReLU(channels))


class Pool(nn.Module):
    """Adaptive average pooling between two known sides; where one is no multiple of the other, as a product with a constant matrix."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.whole = nn.AvgPool2d(before // after) if before % after == 0 else None
        averages = torch.zeros(after, before)
        for row in range(after):
            low, high = row * before // after, math.ceil((row + 1) * before / after)
            averages[row, low:high] = 1 / (high - low)
        self.register_buffer("averages", averages, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, before, before] to [N, C, after, after]."""
        if self.whole is not None:
            out: Tensor = self.whole(x)
            return out
        return self.averages @ x @ self.averages.T


class Shuffle(nn.Module):
    """Deal the channels of groups out in turn."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to itself."""
        return x.unflatten(1, (self.groups, x.shape[1] // self.groups)).transpose(1, 2).flatten(1, 2)


class Scales(nn.Module):
    """Efficient pyramid pooling: depthwise convolutions at five scales, merged."""

    def __init__(self, inputs: int, outputs: int, side: int, *, last: bool = False) -> None:
        super().__init__()
        sides = [max(SMALLEST, math.ceil(side * scale)) for scale in SCALES]
        self.projection_layer = cbr(inputs, PROJECTED, 1)
        self.stages = nn.ModuleList(nn.Conv2d(PROJECTED, PROJECTED, 3, padding=1, groups=PROJECTED, bias=False) for _ in SCALES)
        self.before = nn.ModuleList(_resize(side, other) for other in sides)
        self.after = nn.ModuleList(_resize(other, side) for other in sides)
        width = PROJECTED * len(SCALES)
        self.merge_layer = nn.Sequential(
            br(width), Shuffle(len(SCALES)), cbr(width, PROJECTED, 3, groups=PROJECTED), nn.Conv2d(PROJECTED, outputs, 1, bias=last)
        )
        self.br = None if last else br(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, side, side] to [N, outputs, side, side]."""
        x = self.projection_layer(x)
        scales = [after(stage(before(x))) for before, stage, after in zip(self.before, self.stages, self.after, strict=True)]
        out: Tensor = self.merge_layer(torch.cat(scales, dim=1))
        return out if self.br is None else self.br(out)


def _resize(before: int, after: int) -> nn.Module:
    """From one side to another: bilinear to a larger one, averages to a smaller one."""
    if before == after:
        return nn.Identity()
    return Pool(before, after) if after < before else nn.Upsample(size=(after, after), mode="bilinear", align_corners=True)


class Weighed(nn.Module):
    """A grouped convolution whose channels are weighed by what the whole map holds."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wt_layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sigmoid())
        self.expansion_layer = cbr(inputs, outputs, 3, groups=math.gcd(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H, W]."""
        out: Tensor = self.expansion_layer(x) * self.wt_layer(x)
        return out


class EspNetV2(nn.Module):
    """Encoder, and a decoder that goes up level by level."""

    def __init__(self) -> None:
        super().__init__()
        self.base_net = Encoder()
        widths: Sequence[int] = (256, *DECODED[:3])
        for level, (inputs, outputs) in enumerate(zip(widths, DECODED, strict=True)):
            self.add_module(f"bu_dec_l{level + 1}", Scales(inputs, outputs, SIDE // 16 * 2**level, last=level == 3))
        for level, (inputs, outputs) in enumerate(zip((128, 64, 32), DECODED[:3], strict=True)):
            self.add_module(f"merge_enc_dec_l{level + 2}", Weighed(inputs, outputs))
            self.add_module(f"bu_br_l{level + 2}", nn.Sequential(nn.BatchNorm2d(outputs), nn.PReLU(outputs)))
            self.add_module(f"up_l{level + 2}", nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))
        self.upsample = nn.Upsample(size=(SIDE, SIDE), mode="bilinear", align_corners=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [N, 3, 384, 384] to class scores [N, 21, 384, 384]."""
        first, second, third, fourth = self.base_net(x)
        out = self.get_submodule("bu_dec_l1")(fourth)
        for level, features in enumerate((third, second, first), start=2):
            risen = self.get_submodule(f"up_l{level}")(out)
            out = self.get_submodule(f"bu_br_l{level}")(self.get_submodule(f"merge_enc_dec_l{level}")(features) + risen)
            out = self.get_submodule(f"bu_dec_l{level}")(out)
        scores: Tensor = self.upsample(out)
        return scores


def espnetv2() -> nn.Module:
    """ESPNetv2 1.0 for 21 classes: 0.23 M parameters."""
    return EspNetV2()
