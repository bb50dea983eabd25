from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.errors import ExportError
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context, Exporter, Source
from edgekit.core.registry import create

IMAGE = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)


@pytest.fixture
def checkpoint(tiny_weights: Path, arch_file: Path, tmp_path: Path) -> Checkpoint:
    out = tmp_path / "checkpoint"
    out.mkdir()
    source = create(Source, {"use": "pytorch", "path": str(tiny_weights), "arch": f"{arch_file}:tiny"}, "model")
    return source.fetch(out, Context(example={}))


def export(checkpoint: Checkpoint, out: Path, example: dict[str, np.ndarray] | None = None, **options: object) -> Artifact:
    out.mkdir()
    return create(Exporter, {"use": "onnx", **options}, "x").export(checkpoint, out, Context(example=example or {"image": IMAGE}))


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
@pytest.mark.parametrize("batch", [1, 5])
def test_same_outputs_as_pytorch_in_every_opset_and_batch(checkpoint: Checkpoint, tmp_path: Path, opset: int, batch: int) -> None:
    made = export(checkpoint, tmp_path / "out", opset=opset)
    assert onnx.load(made.model).opset_import[0].version == opset == made.metadata["opset"]
    x = np.random.default_rng(1).normal(size=(batch, 1, 8, 8)).astype(np.float32)
    got = onnxruntime.InferenceSession(str(made.model)).run(None, {"image": x})[0]
    with torch.inference_mode():
        np.testing.assert_allclose(got, load_module(checkpoint)(torch.from_numpy(x)).numpy(), atol=1e-5)


def test_inputs_outputs_and_layers_keep_their_names(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = export(checkpoint, tmp_path / "out")
    assert [(i.name, i.dtype, i.shape) for i in made.inputs] == [("image", "float32", ("batch", 1, 8, 8))]
    assert [(o.name, o.shape) for o in made.outputs] == [("output", ("batch", 3))]
    assert {"conv1", "conv2", "fc"} <= {node.name for node in onnx.load(made.model).graph.node}


def test_file_holds_no_paths_and_two_exports_are_equal(checkpoint: Checkpoint, arch_file: Path, tmp_path: Path) -> None:
    first = export(checkpoint, tmp_path / "a")
    second = export(checkpoint, tmp_path / "b")
    assert first.model.read_bytes() == second.model.read_bytes()
    assert arch_file.name.encode() not in first.model.read_bytes()


def test_wrong_input_shape_is_told_before_export(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"image \[2, 3, 8, 8\] float32"):
        export(checkpoint, tmp_path / "out", {"image": np.zeros((1, 3, 8, 8), np.float32)})


def test_unsupported_operator_is_named(tmp_path: Path) -> None:
    arch = tmp_path / "odd.py"
    arch.write_text(
        "import torch\nclass Odd(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.w = torch.nn.Parameter(torch.eye(4))\n"
        "    def forward(self, x):\n        return torch.linalg.eigvals(x @ self.w).real\n"
    )
    torch.save({"w": torch.eye(4)}, tmp_path / "odd.pth")
    (tmp_path / "c").mkdir()
    source = create(Source, {"use": "pytorch", "path": str(tmp_path / "odd.pth"), "arch": f"{arch}:Odd"}, "model")
    checkpoint = source.fetch(tmp_path / "c", Context(example={}))
    with pytest.raises(ExportError, match="linalg_eig"):
        export(checkpoint, tmp_path / "out", {"x": np.eye(4, dtype=np.float32)[None]})


def test_an_output_may_bear_the_name_of_a_value_inside(tmp_path: Path) -> None:
    class Lookup(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(10, 4)

        def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"embedding": self.table(ids).sum(1) * 2}

    module = Lookup().eval()
    ids = np.array([[1, 2, 3]])
    made = create(Exporter, "onnx", "exporters").write(module, tmp_path, Context(example={"ids": ids}))
    session = onnxruntime.InferenceSession(made.model)
    (found,) = session.run(["embedding"], {"ids": ids})
    np.testing.assert_allclose(found, module(torch.from_numpy(ids))["embedding"].detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("opset", [13, 20])
def test_inputs_reach_the_arguments_of_their_names(tmp_path: Path, opset: int) -> None:
    class Optional(torch.nn.Module):
        def forward(
            self, x: torch.Tensor, scale: torch.Tensor | None = None, shift: torch.Tensor | None = None, unused: torch.Tensor | None = None
        ) -> torch.Tensor:
            x = x if scale is None else x * scale
            return x if shift is None else x + shift

    arrays = {name: np.full((1, 4), value, np.float32) for name, value in (("x", 3), ("shift", 5), ("unused", 7))}
    made = create(Exporter, {"use": "onnx", "opset": opset}, "x").write(Optional().eval(), tmp_path, Context(example=arrays))
    assert [i.name for i in made.inputs] == ["x", "shift", "unused"]
    np.testing.assert_array_equal(onnxruntime.InferenceSession(made.model).run(None, arrays)[0], [[8, 8, 8, 8]])


def test_ready_graph_passes_through_unchanged(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = export(checkpoint, tmp_path / "a")
    (tmp_path / "g").mkdir()
    graph = create(Source, {"use": "onnx", "path": str(made.model)}, "model").fetch(tmp_path / "g", Context(example={}))
    again = export(graph, tmp_path / "b")
    assert graph.kind == "graph"
    assert again.model.read_bytes() == made.model.read_bytes()
    assert again.inputs == made.inputs
