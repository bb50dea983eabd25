"""Small networks of kinds that the data pack has no checkpoint of; with random weights they show numerical fidelity, nothing more."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def block(taken: int, given: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, SiLU."""
    return nn.Sequential(nn.Conv2d(taken, given, 3, stride, 1, bias=False), nn.BatchNorm2d(given), nn.SiLU())


class YoloLike(nn.Module):
    """Three scales, a head of one convolution each, raw boxes and scores as one tensor [N, boxes, 5 + classes]."""

    def __init__(self, width: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, width, 2), block(width, width, 2))
        self.stages = nn.ModuleList([block(width * 2**i, width * 2 ** (i + 1), 2) for i in range(3)])
        self.lateral = nn.Conv2d(width * 8, width * 4, 1)
        self.heads = nn.ModuleList([nn.Conv2d(width * 2 ** (i + 1), 5 + classes, 1) for i in range(3)])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return boxes and scores of all cells."""
        features = [self.stages[0](self.stem(image))]
        features.append(self.stages[1](features[0]))
        features.append(self.stages[2](features[1]))
        features[1] = features[1] + functional.interpolate(self.lateral(features[2]), scale_factor=2.0, mode="nearest")
        return torch.cat([head(part).flatten(2) for head, part in zip(self.heads, features, strict=True)], dim=2).transpose(1, 2)


class UNet(nn.Module):
    """Two levels down and up with skips; scores of each pixel.

    Reference: Ronneberger et al. 2015, arXiv:1505.04597.
    """

    def __init__(self, width: int = 16, classes: int = 3) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(3, width), block(width, 2 * width)])
        self.bottom = block(2 * width, 4 * width)
        self.rise = nn.ModuleList([nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.ConvTranspose2d(2 * width, width, 2, 2)])
        self.up = nn.ModuleList([block(4 * width, 2 * width), block(2 * width, width)])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores [N, classes, H, W]."""
        skips = []
        for part in self.down:
            image = part(image)
            skips.append(image)
            image = functional.max_pool2d(image, 2)
        image = self.bottom(image)
        for rise, part, skip in zip(self.rise, self.up, reversed(skips), strict=True):
            image = part(torch.cat([rise(image), skip], dim=1))
        return self.head(image)


class Res2Block(nn.Module):
    """Dilated convolutions in a hierarchy of channel groups, squeeze and excitation, a shortcut."""

    def __init__(self, width: int, dilation: int, groups: int = 4) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)
        self.inner = nn.ModuleList(
            [nn.Conv1d(width // groups, width // groups, 3, padding=dilation, dilation=dilation) for _ in range(groups - 1)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm1d(width) for _ in range(2)])
        self.squeeze, self.excite = nn.Conv1d(width, width // 4, 1), nn.Conv1d(width // 4, width, 1)
        self.groups = groups

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape [N, width, T]."""
        parts = list(torch.relu(self.norms[0](self.first(sound))).chunk(self.groups, dim=1))
        for i, layer in enumerate(self.inner):
            parts[i + 1] = torch.relu(layer(parts[i + 1] + parts[i] if i else parts[i + 1]))
        made = torch.relu(self.norms[1](self.last(torch.cat(parts, dim=1))))
        weight = torch.sigmoid(self.excite(torch.relu(self.squeeze(made.mean(dim=2, keepdim=True)))))
        return sound + made * weight


class EcapaTdnn(nn.Module):
    """Res2 blocks, aggregation of all of them, attentive statistics, a speaker embedding.

    Reference: Desplanques et al. 2020, arXiv:2005.07143.
    """

    def __init__(self, bands: int = 40, width: int = 64, embedding: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv1d(bands, width, 5, padding=2)
        self.blocks = nn.ModuleList([Res2Block(width, dilation) for dilation in (2, 3, 4)])
        self.gather = nn.Conv1d(3 * width, 2 * width, 1)
        self.attend = nn.Sequential(nn.Conv1d(2 * width, 32, 1), nn.Tanh(), nn.Conv1d(32, 2 * width, 1))
        self.embed = nn.Linear(4 * width, embedding)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return embeddings [N, embedding] of log-mel features [N, bands, T]."""
        sound = torch.relu(self.stem(features))
        made = []
        for part in self.blocks:
            sound = part(sound)
            made.append(sound)
        whole = torch.relu(self.gather(torch.cat(made, dim=1)))
        weight = torch.softmax(self.attend(whole), dim=2)
        mean = (weight * whole).sum(dim=2)
        spread = ((weight * whole**2).sum(dim=2) - mean**2).clamp(min=1e-5).sqrt()
        return self.embed(torch.cat([mean, spread], dim=1))
