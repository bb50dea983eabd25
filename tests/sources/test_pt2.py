from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.core.artifacts import Checkpoint
from edgekit.core.errors import SourceError
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context, Exporter, Source
from edgekit.core.registry import create
from edgekit.runner import load

BATCH = torch.export.Dim("batch", min=1)


class Network(nn.Module):
    """A convolution, a shared weight, a buffer, and a size that follows the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.inner = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
        self.again = self.inner[0]
        self.register_buffer("shift", torch.arange(16.0))

    def forward(self, image: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.stem(image).amax(1).reshape(image.shape[0], 16) + self.shift
        return self.again(self.inner(features)) * scale, features


def saved(folder: Path, *, dynamic: bool = True) -> tuple[Path, Network]:
    torch.manual_seed(0)
    network = Network().eval()
    shapes = ({0: BATCH}, {0: BATCH}) if dynamic else None
    program = torch.export.export(network, (torch.randn(2, 1, 4, 4), torch.randn(2, 1)), dynamic_shapes=shapes)
    torch.export.save(program, folder / "network.pt2")
    return folder / "network.pt2", network


def fetched(path: Path, out: Path) -> Checkpoint:
    out.mkdir()
    return create(Source, {"use": "pt2", "path": str(path)}, "model").fetch(out, Context(example={}))


def batch(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"image": rng.normal(size=(size, 1, 4, 4)).astype(np.float32), "scale": rng.normal(size=(size, 1)).astype(np.float32)}


def test_a_program_becomes_a_module_with_its_weights_under_their_names(tmp_path: Path) -> None:
    path, network = saved(tmp_path)
    module = load_module(fetched(path, tmp_path / "checkpoint"))
    assert {"stem.weight", "inner.0.weight", "shift"} <= set(module.state_dict())
    assert "shift" not in dict(module.named_parameters())
    given = {name: torch.from_numpy(array) for name, array in batch(3).items()}
    with torch.no_grad():
        for mine, wanted in zip(module(**given).values(), network(**given), strict=True):
            assert torch.equal(mine, wanted)


@pytest.mark.parametrize(("exporter", "runtime"), [("onnx", "onnxruntime"), ("openvino", "openvino"), ("torch", "pytorch")])
def test_every_format_can_be_made_of_it(exporter: str, runtime: str, tmp_path: Path) -> None:
    path, network = saved(tmp_path)
    checkpoint = fetched(path, tmp_path / "checkpoint")
    (tmp_path / "out").mkdir()
    made = create(Exporter, exporter, "exporter").export(checkpoint, tmp_path / "out", Context(example=batch(1)))
    given = batch(3)
    outputs = load(made.model, runtime).run(given)
    with torch.no_grad():
        wanted = network(**{name: torch.from_numpy(array) for name, array in given.items()})
    for mine, expected in zip(outputs.values(), wanted, strict=True):
        np.testing.assert_allclose(mine, expected.numpy(), atol=1e-5)


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, dynamic=False)
    with pytest.raises(SourceError, match=r"'image' is fixed to \[2, 1, 4, 4\]"):
        fetched(path, tmp_path / "checkpoint")


def test_an_operator_of_another_library_is_named(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    damaged = path.read_bytes().replace(b"torch.ops.aten.conv2d.default", b"torch.ops.evil.conv2d.default")
    path.write_bytes(damaged)
    with pytest.raises(SourceError, match=r"evil\.conv2d|CRC"):
        fetched(path, tmp_path / "checkpoint")


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.pt2").write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"no\.pt2: does not load"):
        fetched(tmp_path / "no.pt2", tmp_path / "checkpoint")
