"""Small networks of every shape that pruning has to understand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Block(nn.Module):
    """A residual block; where the shape changes, the shortcut subsamples and pads."""

    def __init__(self, inputs: int, planes: int, stride: int = 1, *, residual: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride, self.more, self.residual = stride, (planes - inputs) // 2, residual

    def forward(self, x: Tensor) -> Tensor:
        main = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if not self.residual:
            return torch.relu(main)
        x = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(main + (pad(x, (0, 0, 0, 0, self.more, self.more)) if self.more else x))


class Residual(nn.Module):
    """Two stages of residual blocks on pictures of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(Block(8, 8), Block(8, 8))
        self.layer2 = nn.Sequential(Block(8, 16, 2), Block(16, 16), Block(16, 16, residual=False))
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(torch.relu(self.conv1(x)))).mean((2, 3)))


class Separable(nn.Module):
    """Pointwise and depthwise convolutions, and a linear layer that reads flattened pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Conv2d(1, 12, 1)
        self.act = nn.PReLU(12)
        self.deep = nn.Conv2d(12, 12, 3, padding=1, stride=2, groups=12)
        self.norm = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.sigmoid(self.norm(self.deep(self.act(self.up(x))))).flatten(1))


class Shuffled(nn.Module):
    """Even channels pass, odd ones are worked on, as in ShuffleNetV2: a layout that the dependency graph does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.work = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.fc(torch.cat([x[:, ::2], torch.relu(self.work(x[:, 1::2]))], 1).mean((2, 3)))


class Attention(nn.Module):
    """Self-attention over rows, with the attributes that Hugging Face's BERT keeps."""

    def __init__(self, width: int = 8, heads: int = 4) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size, self.all_head_size = heads, width // heads, width
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], self.num_attention_heads, self.attention_head_size)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = torch.softmax(q @ k.transpose(-1, -2) / self.attention_head_size**0.5, -1) @ v
        return mixed.transpose(1, 2).reshape(*x.shape[:-1], self.all_head_size)


class Transformer(nn.Module):
    """One encoder layer on the eight rows of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.output = Attention(), nn.Linear(8, 8)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.wide, self.narrow = nn.Linear(8, 32), nn.Linear(32, 8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0]
        x = self.norm1(x + self.output(self.attention(x)))
        x = self.norm2(x + self.narrow(torch.nn.functional.gelu(self.wide(x))))
        return self.fc(x.mean(1))


def seeded(kind: type[nn.Module]) -> nn.Module:
    """A network in evaluation mode whose batch norms do something."""
    torch.manual_seed(0)
    module = kind().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return module
