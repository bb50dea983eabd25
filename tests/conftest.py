"""Shared test material: a tiny network, tiny data, and a store of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.resources import data_root

TINY_ARCH = '''
import torch
from torch import nn


class TinyCnn(nn.Module):
    """Two convolutions on 8x8 images with one channel; three classes."""

    def __init__(self, width: int = 8, classes: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(width * 16, classes)

    def forward(self, x):
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.fc(x.flatten(1))


def tiny(width: int = 8):
    return TinyCnn(width)


def no_module():
    return [1, 2, 3]


def raises():
    raise ValueError("no weights today")


constant = 3
'''


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test's stored results to itself, but share virtual environments, which are slow to make."""
    if "EDGEKIT_TEST_CACHE" not in os.environ:
        monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path_factory.mktemp("store")))


@pytest.fixture
def arch_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_arch.py"
    path.write_text(TINY_ARCH, encoding="utf-8")
    return path


@pytest.fixture
def tiny_weights(arch_file: Path) -> Path:
    """State dict of the tiny network, seeded."""
    import torch

    from edgekit.core.factories import find_function

    torch.manual_seed(0)
    path = arch_file.parent / "tiny.pth"
    torch.save(find_function(f"{arch_file}:tiny")().state_dict(), path)
    return path


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """A labelled set of 8x8 images: 40 for calibration, 60 for evaluation, as a YAML file."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)
    labels = rng.integers(0, 3, 100)
    np.savez_compressed(tmp_path / "tiny.npz", x=images, y=labels)
    path = tmp_path / "tiny-set.yaml"
    path.write_text(
        """
schema: 1
name: tiny-set
read: {use: npz, path: tiny.npz, inputs: {image: x}, labels: y}
classes: [circle, square, star]
preprocess: {scale: 0.00392156862745098, layout: nchw}
splits:
  calibration: {rows: [0, 40]}
  evaluation: {rows: [40, 100]}
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real checkpoints and data; tests that need it are skipped without."""
    root = data_root()
    if not (root / "MANIFEST.md").is_file():
        pytest.skip("real data is not here; set EDGEKIT_DATA")
    return root
