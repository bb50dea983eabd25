"""Handwritten digits and small networks, real enough to learn something in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgekit.core.plugin import Context, Task
from edgekit.core.registry import create
from edgekit.data import open_dataset

if TYPE_CHECKING:
    import torch

DIGITS = """schema: 1
title: Digits to learn from
read: {use: npz, path: %s, inputs: {input: train_x}, labels: train_y}
classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
preprocess: {scale: 1/16, layout: nchw}
splits:
  training: {rows: [0, 600]}
  unlabelled: {read: {inputs: {input: train_x}, labels: null}, rows: [0, 600]}
  evaluation: {read: {inputs: {input: test_x}, labels: test_y}}
"""


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Description of 600 digits to learn from and 597 to judge on."""
    import edgekit

    path = tmp_path_factory.mktemp("digits") / "digits-set.yaml"
    stored = Path(edgekit.__file__).parent.parent / "calibration" / "digits.npz"
    path.write_text(DIGITS % stored, encoding="utf-8")
    return path


@pytest.fixture
def context(digits: Path, tmp_path: Path) -> Context:
    """Everything a pass may ask for, save a teacher."""
    training = open_dataset(str(digits), role="training", base=tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    example = next(training.batches(1))[0]
    task = create(Task, "image_classification", "task")
    return Context(example=example, calibration=training, training=training, task=task, scratch=scratch)


@pytest.fixture
def elsewhere(context: Context, tmp_path: Path) -> Context:
    """The same with a scratch folder of its own."""
    other = tmp_path / "other-scratch"
    other.mkdir()
    return replace(context, scratch=other)


@pytest.fixture
def student() -> torch.nn.Module:
    """A network that knows nothing yet."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, 10)
    )


@pytest.fixture
def accuracy(digits: Path) -> Callable[[torch.nn.Module], float]:
    """Tells the share of the evaluation digits that a network gets right."""
    import torch

    data = open_dataset(str(digits), role="evaluation", base=digits.parent)

    def share(module: torch.nn.Module) -> float:
        with torch.no_grad():
            right = [
                float((module(torch.from_numpy(inputs["input"])).argmax(1).numpy() == np.asarray(labels)).sum())
                for inputs, labels in data.batches(100)
            ]
        return sum(right) / len(data)

    return share
