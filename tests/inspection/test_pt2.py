from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.core.errors import SourceError
from edgekit.inspection import inspect


class Network(nn.Module):
    """A convolution, a depthwise one, batch norm, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.depthwise(self.conv(image))).mean((2, 3)))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "network.pt2"
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(Network().eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, path)
    return path


def test_operators_parameters_and_macs(program: Path) -> None:
    found = inspect(program)
    assert (found.format, found.parameters) == ("torch", 3 * 4 * 9 + 4 + 4 * 9 + 4 + 8 + 4 * 5 + 5)
    assert found.macs == 4 * 64 * 27 + 4 * 64 * 9 + 5 * 4
    assert [(i.dtype, i.shape and i.shape[1:]) for i in found.inputs] == [("float32", (3, 8, 8))]
    assert found.operators["aten.conv2d"] == 2
    assert found.precisions == {"fp32": 3}


def test_memory_holds_weights_and_the_two_largest_neighbours(program: Path) -> None:
    found = inspect(program)
    assert found.memory == found.size + 2 * 4 * 64 * 4


def test_depthwise_convolutions_want_a_recovery(program: Path) -> None:
    found = inspect(program)
    assert found.advice is not None
    assert found.advice.preset == "balanced"


def test_a_damaged_program_is_refused(program: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pt2").write_bytes(program.read_bytes()[:500])
    with pytest.raises(SourceError, match=r"cut\.pt2: is truncated"):
        inspect(tmp_path / "cut.pt2")
