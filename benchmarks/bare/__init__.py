"""The shortest scripts that take ResNet-20 to int8 with the bare libraries: the yardstick for edgekit's own cost."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def network():
    """ResNet-20 with its CIFAR-10 weights."""
    import torch

    from benchmarks.models.resnet_cifar import resnet20

    state = torch.load(root() / "resnet20-12fca82f.th", map_location="cpu", weights_only=True)["state_dict"]
    module = resnet20()
    module.load_state_dict({key.removeprefix("module."): value for key, value in state.items()}, strict=False)
    return module.eval()


def samples(count: int = 300) -> Iterator[np.ndarray]:
    """Preprocessed training pictures [1, 3, 32, 32]."""
    pictures = np.load(root() / "cifar10_lossless_dev.npz")["train_x"]
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    for picture in pictures[:count]:
        yield np.ascontiguousarray(((picture / np.float32(255) - mean) / std).transpose(2, 0, 1)[None])


def root() -> Path:
    """Folder of the CIFAR-10 data."""
    return Path(os.environ.get("EDGEKIT_DATA", "../shared/data")) / "cifar10"


def out() -> Path:
    """Folder to write to."""
    return Path(sys.argv[1])
