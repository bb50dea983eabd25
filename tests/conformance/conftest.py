"""A small network with what real ones are made of, and its exports, made once for all contract tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.plugin import Context, Exporter, Source
from edgekit.core.registry import create

ARCH = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.relu2 = nn.ReLU()
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.relu1(self.bn1(self.stem(x)))
        x = x + self.pointwise(self.relu2(self.depthwise(x)))
        return self.head(self.pool(x).flatten(1))


def small():
    return Small()
"""


def image(seed: int, batch: int = 1) -> np.ndarray:
    """Random images [N, 3, 8, 8]."""
    return np.random.default_rng(seed).normal(size=(batch, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    import torch

    from edgekit.core.factories import find_function

    folder = tmp_path_factory.mktemp("small")
    (folder / "arch.py").write_text(ARCH, encoding="utf-8")
    torch.manual_seed(0)
    module = find_function(f"{folder}/arch.py:small")()
    module.bn1.running_mean.uniform_(-0.5, 0.5)
    module.bn1.running_var.uniform_(0.5, 2)
    torch.save(module.state_dict(), folder / "small.pth")
    (folder / "checkpoint").mkdir()
    source = create(Source, {"use": "pytorch", "path": str(folder / "small.pth"), "arch": f"{folder}/arch.py:small"}, "model")
    return source.fetch(folder / "checkpoint", Context(example={}))


@pytest.fixture(scope="session")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """The small network in a format, made when it is first asked for."""
    made: dict[str, Artifact] = {}

    def get(name: str) -> Artifact:
        if name not in made:
            out: Path = tmp_path_factory.mktemp(name)
            made[name] = create(Exporter, name, "exporter").export(checkpoint, out, Context(example={"image": image(0)}))
        return made[name]

    return get
