"""ECAPA-TDNN: an embedding of a voice from mel bands over time.

Reference: Desplanques et al. 2020, "ECAPA-TDNN: Emphasized Channel Attention, Propagation and Aggregation in TDNN Based Speaker
Verification" (arXiv:2005.07143); its blocks are those of Res2Net (arXiv:1904.01169) and Squeeze-and-Excitation (arXiv:1709.01507).
Input float32 [N, bands, frames], log mel without its mean. Output: embedding [N, 192].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNEL, DILATIONS, SCALE, BOTTLENECK, EMBEDDING = 3, (2, 3, 4), 8, 4, 192
SMALLEST_VARIANCE = 1e-6


class Tdnn(nn.Module):
    """A convolution over time that keeps the length, ReLU, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2 * dilation, dilation=dilation)
        self.relu = nn.ReLU()
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, T] to [N, outputs, T]."""
        out: Tensor = self.norm(self.relu(self.conv(x)))
        return out


class Res2(nn.Module):
    """Channels in eight parts: the first passes, each other one is convolved together with the result before it."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // SCALE
        self.parts = nn.ModuleList(Tdnn(width, width, KERNEL, dilation) for _ in range(SCALE - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, T] to itself."""
        first, *others = x.chunk(SCALE, dim=1)
        done = [first]
        for number, (part, layer) in enumerate(zip(others, self.parts, strict=True)):
            done.append(layer(part + done[-1] if number else part))
        return torch.cat(done, dim=1)


class Excitation(nn.Module):
    """Weighs channels by what the whole recording holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv1d(channels, channels // BOTTLENECK, 1)
        self.relu = nn.ReLU()
        self.excite = nn.Conv1d(channels // BOTTLENECK, channels, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, T] to itself."""
        return x * self.sigmoid(self.excite(self.relu(self.squeeze(x.mean(dim=2, keepdim=True)))))


class Block(nn.Module):
    """SE-Res2Block."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Tdnn(channels, channels), Res2(channels, dilation), Tdnn(channels, channels), Excitation(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, T] to itself."""
        out: Tensor = x + self.layers(x)
        return out


class AttentivePooling(nn.Module):
    """Mean and deviation over time, weighed for each channel by an attention that knows the whole recording."""

    def __init__(self, channels: int, attention: int) -> None:
        super().__init__()
        self.context = Tdnn(3 * channels, attention)
        self.tanh = nn.Tanh()
        self.attend = nn.Conv1d(attention, channels, 1)
        self.softmax = nn.Softmax(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, T] to [N, 2 C]."""
        mean = x.mean(dim=2, keepdim=True)
        spread = ((x - mean) ** 2).mean(dim=2, keepdim=True).clamp_min(SMALLEST_VARIANCE).sqrt()
        known = torch.cat([x, mean.expand_as(x), spread.expand_as(x)], dim=1)
        weights = self.softmax(self.attend(self.tanh(self.context(known))))
        middle = (weights * x).sum(dim=2)
        variance = (weights * (x - middle[:, :, None]) ** 2).sum(dim=2)
        return torch.cat([middle, variance.clamp_min(SMALLEST_VARIANCE).sqrt()], dim=1)


class EcapaTdnn(nn.Module):
    """Stem, three blocks whose results are joined, attentive pooling, embedding."""

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.stem = Tdnn(bands, channels, 5)
        self.blocks = nn.ModuleList(Block(channels, dilation) for dilation in DILATIONS)
        joined = channels * len(DILATIONS)
        self.join = nn.Conv1d(joined, joined, 1)
        self.relu = nn.ReLU()
        self.pooling = AttentivePooling(joined, channels // BOTTLENECK)
        self.norm = nn.BatchNorm1d(2 * joined)
        self.embed = nn.Linear(2 * joined, EMBEDDING)
        self.embed_norm = nn.BatchNorm1d(EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        """Map mel bands [N, bands, frames] to embeddings [N, 192]."""
        x = self.stem(x)
        levels = []
        for block in self.blocks:
            x = block(x)
            levels.append(x)
        pooled = self.pooling(self.relu(self.join(torch.cat(levels, dim=1))))
        out: Tensor = self.embed_norm(self.embed(self.norm(pooled)))
        return out


def ecapa_tdnn(bands: int = 40, channels: int = 64) -> nn.Module:
    """ECAPA-TDNN; 64 channels where the paper has 512, for six voices don't need more."""
    return EcapaTdnn(bands, channels)
