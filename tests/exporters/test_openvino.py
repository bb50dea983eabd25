from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from edgekit.core import openvino_ir
from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.errors import ExportError
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context, Exporter, Source
from edgekit.core.registry import create

IMAGE = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)
TOKENS = {"ids": np.arange(12, dtype=np.int64)[None] % 7, "mask": np.ones((1, 12), np.int64), "unused": np.zeros((1, 12), np.int64)}
ODD = """
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.query = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 2)

    def forward(self, mask, ids, unused=None):
        x = self.embed(ids)
        scores = (self.query(x) @ x.transpose(1, 2)).masked_fill(mask[:, None, :] == 0, -1e4).softmax(-1)
        x = self.norm(x + scores @ x)
        return {"logits": self.head(x[:, 0]), "hidden": x}


class Bn(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        nn.init.uniform_(self.stem[1].bias)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        return x + self.conv(x), x.mean((2, 3))


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.eye(4))

    def forward(self, x):
        return torch.linalg.eigvals(x @ self.w).real
"""


def fetch(folder: Path, name: str) -> Checkpoint:
    """A checkpoint of one of the odd modules, with its own initial weights."""
    (folder / "odd.py").write_text(ODD, encoding="utf-8")
    from edgekit.core.factories import find_function

    torch.manual_seed(0)
    torch.save(find_function(f"{folder}/odd.py:{name}")().state_dict(), folder / f"{name}.pth")
    (folder / "checkpoint").mkdir()
    source = create(Source, {"use": "pytorch", "path": str(folder / f"{name}.pth"), "arch": f"{folder}/odd.py:{name}"}, "model")
    return source.fetch(folder / "checkpoint", Context(example={}))


def export(checkpoint: Checkpoint, out: Path, example: dict[str, np.ndarray], **context: object) -> Artifact:
    out.mkdir()
    return create(Exporter, "openvino", "x").export(checkpoint, out, Context(example=example, **context))  # type: ignore[arg-type]


def run(model: Artifact, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    compiled = openvino.Core().compile_model(str(model.model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(inputs)
    return {port.get_any_name(): found[port] for port in compiled.outputs}


def test_layers_bear_the_names_of_their_modules_even_where_batch_norm_is_folded(tmp_path: Path) -> None:
    made = export(fetch(tmp_path, "Bn"), tmp_path / "out", {"image": IMAGE})
    nodes = {node.get_friendly_name(): node.get_type_name() for node in openvino_ir.read(made.model).get_ops()}
    assert nodes["stem.0"] == nodes["conv"] == "Convolution"
    assert nodes["stem.1/Add"] == "Add"
    assert not [name for name in nodes if re.search(r"_\d{3,}", name)], "a process-wide counter got into a name"


def test_several_outputs_of_a_tuple_are_numbered(tmp_path: Path) -> None:
    made = export(fetch(tmp_path, "Bn"), tmp_path / "out", {"image": IMAGE})
    assert [(o.name, o.shape) for o in made.outputs] == [("output_0", ("batch", 4, 6, 6)), ("output_1", ("batch", 4))]


def test_named_inputs_outputs_and_varying_axes(tmp_path: Path) -> None:
    checkpoint = fetch(tmp_path, "Attention")
    axes = {name: {1: "sequence"} for name in TOKENS}
    made = export(checkpoint, tmp_path / "out", TOKENS, dynamic=axes)
    assert [i.name for i in made.inputs] == ["mask", "ids", "unused"], "in the order of forward"
    assert {i.dtype for i in made.inputs} == {"int64"}
    assert {o.name: o.shape[0] for o in made.outputs} == {"logits": "batch", "hidden": "batch"}
    module = load_module(checkpoint)
    for batch, length in ((1, 12), (3, 5)):
        rng = np.random.default_rng(length)
        inputs = {name: rng.integers(0, 2, (batch, length)) for name in TOKENS}
        inputs["mask"][:, 0] = 1
        with torch.inference_mode():
            right = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        for name, value in run(made, inputs).items():
            np.testing.assert_allclose(value, right[name].numpy(), atol=1e-5)


def test_axes_that_nobody_calls_varying_are_fixed(tmp_path: Path) -> None:
    made = export(fetch(tmp_path, "Attention"), tmp_path / "out", TOKENS)
    assert {i.shape for i in made.inputs} == {("batch", 12)}


def test_unknown_operator_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="linalg_eig") as problem:
        export(fetch(tmp_path, "Odd"), tmp_path / "out", {"x": np.eye(4, dtype=np.float32)[None]})
    assert "\n" not in str(problem.value)
    assert problem.value.hint


def test_onnx_graph_becomes_ir_with_its_node_names(tmp_path: Path) -> None:
    checkpoint = fetch(tmp_path, "Bn")
    (tmp_path / "onnx").mkdir()
    graph = create(Exporter, "onnx", "x").export(checkpoint, tmp_path / "onnx", Context(example={"image": IMAGE}))
    (tmp_path / "graph").mkdir()
    source = create(Source, {"use": "onnx", "path": str(graph.model)}, "model").fetch(tmp_path / "graph", Context(example={}))
    made = export(source, tmp_path / "out", {"image": IMAGE})
    assert {"stem.0", "conv"} <= {node.get_friendly_name() for node in openvino_ir.read(made.model).get_ops()}
    assert [(i.name, i.shape) for i in made.inputs] == [("image", ("batch", 1, 8, 8))]
    x = np.random.default_rng(3).normal(size=(2, 1, 8, 8)).astype(np.float32)
    with torch.inference_mode():
        right = load_module(checkpoint)(torch.from_numpy(x))
    for value, expected in zip(run(made, {"image": x}).values(), right, strict=True):
        np.testing.assert_allclose(value, expected.numpy(), atol=1e-5)


def test_ir_passes_through_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    first = export(fetch(tmp_path, "Bn"), tmp_path / "out", {"image": IMAGE})
    graph = tmp_path / "graph"
    graph.mkdir()
    for path in first.files:
        (graph / path.name).write_bytes(path.read_bytes())
    source = Checkpoint.describe(graph, "openvino", "graph", {"format": "openvino", "file": "model.xml"})
    again = export(source, tmp_path / "again", {"image": IMAGE})
    assert (again.inputs, again.outputs) == (first.inputs, first.outputs)
    np.testing.assert_array_equal(run(again, {"image": IMAGE})["output_1"], run(first, {"image": IMAGE})["output_1"])
    (graph / "model.xml").write_text("<net", encoding="utf-8")
    with pytest.raises(ExportError):
        export(source, tmp_path / "broken", {"image": IMAGE})


def test_compact_file_is_read_as_the_plain_one(tmp_path: Path) -> None:
    made = export(fetch(tmp_path, "Attention"), tmp_path / "out", TOKENS)
    model = openvino_ir.read(made.model)
    openvino.save_model(model, str(tmp_path / "plain.xml"), compress_to_fp16=False)
    assert made.model.stat().st_size < 0.75 * (tmp_path / "plain.xml").stat().st_size
    plain = openvino_ir.read(tmp_path / "plain.xml")
    assert [str(n.get_output_partial_shape(0)) for n in model.get_ordered_ops()] == [
        str(n.get_output_partial_shape(0)) for n in plain.get_ordered_ops()
    ]
