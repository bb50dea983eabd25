from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.errors import ExportError
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context, Exporter, Source
from edgekit.core.registry import create
from edgekit.runner import load

IMAGE = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)
FOUR = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
ODD = """
import torch
from torch import nn


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.eye(4))
        self.count = 0


class Branches(Base):
    def forward(self, x):
        if (x @ self.w).sum() > 0:
            return x
        return -x


class FixesBatch(Base):
    def forward(self, x):
        return (x @ self.w).reshape(2, 4)


class LoopsOverBatch(Base):
    def forward(self, x):
        return torch.stack([row @ self.w for row in x])


class CallsNumpy(Base):
    def forward(self, x):
        return torch.from_numpy((x @ self.w).numpy() * 2)


class Counts(Base):
    def forward(self, x):
        self.count += 1
        return x @ self.w * self.count


class Draws(Base):
    def forward(self, x):
        return x @ self.w + torch.rand_like(x)


class Texts(Base):
    def forward(self, x):
        return "cat"


class Named(Base):
    def forward(self, left, right):
        return {"sum": left @ self.w + right, "joined": torch.cat([left, right], 1).repeat(1, 2), "none": None}


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.places = nn.Embedding(16, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask):
        length = input_ids.shape[1]
        if length > 16:
            raise ValueError("too long")
        x = self.table(input_ids) + self.places(torch.arange(length))
        mask = attention_mask.unsqueeze(-1).to(x.dtype)
        return self.head((x * mask).sum(1) / mask.sum(1).clamp(min=1))
"""


@pytest.fixture
def checkpoint(tiny_weights: Path, arch_file: Path, tmp_path: Path) -> Checkpoint:
    out = tmp_path / "checkpoint"
    out.mkdir()
    source = create(Source, {"use": "pytorch", "path": str(tiny_weights), "arch": f"{arch_file}:tiny"}, "model")
    return source.fetch(out, Context(example={}))


@pytest.fixture
def odd(tmp_path: Path) -> Callable[[str], Checkpoint]:
    def make(name: str) -> Checkpoint:
        arch, out = tmp_path / "odd.py", tmp_path / f"checkpoint-{name}"
        arch.write_text(ODD)
        out.mkdir()
        scope: dict[str, type[torch.nn.Module]] = {}
        exec(compile(ODD, "odd", "exec"), scope)
        torch.manual_seed(0)
        torch.save(scope[name]().state_dict(), tmp_path / "odd.pth")
        return create(Source, {"use": "pytorch", "path": str(tmp_path / "odd.pth"), "arch": f"{arch}:{name}"}, "model").fetch(
            out, Context(example={})
        )

    return make


def export(checkpoint: Checkpoint, out: Path, example: dict[str, np.ndarray] | None = None, **context: object) -> Artifact:
    out.mkdir()
    return create(Exporter, "torch", "x").export(checkpoint, out, Context(example=example or {"image": IMAGE}, **context))


def test_same_outputs_as_the_module_for_any_batch(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = export(checkpoint, tmp_path / "out")
    assert (made.format, made.file, made.precision) == ("torch", "model.pt2", "fp32")
    program, module = load(made.model, "pytorch"), load_module(checkpoint)
    for batch in (1, 2, 3, 7):
        x = np.random.default_rng(batch).normal(size=(batch, 1, 8, 8)).astype(np.float32)
        with torch.inference_mode():
            np.testing.assert_allclose(program.run({"image": x})["output"], module(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-6)


def test_inputs_carry_the_data_sets_names(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = export(checkpoint, tmp_path / "out")
    assert [(i.name, i.dtype, i.shape) for i in made.inputs] == [("image", "float32", ("batch", 1, 8, 8))]
    assert [(o.name, o.dtype, o.shape) for o in made.outputs] == [("output", "float32", ("batch", 3))]
    assert Artifact.load(made.path) == made


def test_two_exports_are_equal_and_hold_nothing_of_the_machine(checkpoint: Checkpoint, arch_file: Path, tmp_path: Path) -> None:
    first = export(checkpoint, tmp_path / "a")
    second = export(checkpoint, tmp_path / "b", {"image": IMAGE + 1})
    content = first.model.read_bytes()
    assert content == second.model.read_bytes()
    for trace in (b".py", arch_file.stem.encode(), os.fsencode(tmp_path), os.fsencode(Path.home()), b"stack_trace", b"nn_module_stack"):
        assert trace not in content
    with zipfile.ZipFile(first.model) as archive:
        assert archive.read("model/data/sample_inputs/model.pt") == b""


def test_pytorch_itself_loads_the_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = export(checkpoint, tmp_path / "out")
    program = torch.export.load(made.model).module()
    x = torch.randn(5, 1, 8, 8)
    (output,) = program(x)
    assert torch.allclose(output, load_module(checkpoint)(x), atol=1e-6)


def test_several_inputs_go_by_name_and_a_dict_keeps_its_keys(odd: Callable[[str], Checkpoint], tmp_path: Path) -> None:
    made = export(odd("Named"), tmp_path / "out", {"right": FOUR, "left": FOUR * 2})
    assert [i.name for i in made.inputs] == ["left", "right"]
    assert [(o.name, o.shape) for o in made.outputs] == [("sum", ("batch", 4)), ("joined", ("batch", 16))]
    outputs = load(made.model, "pytorch").run({"right": FOUR, "left": FOUR * 2})
    np.testing.assert_allclose(outputs["sum"], FOUR * 3, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(outputs["joined"], np.tile(np.concatenate([FOUR * 2, FOUR], 1), 2))


def test_dynamic_axes_stay_open_up_to_the_models_own_limit(odd: Callable[[str], Checkpoint], tmp_path: Path) -> None:
    example = {name: np.ones((1, 6), np.int64) for name in ("input_ids", "attention_mask")}
    checkpoint = odd("Text")
    made = export(checkpoint, tmp_path / "out", example, dynamic={name: {1: "sequence"} for name in example})
    assert [i.shape for i in made.inputs] == [("batch", "sequence")] * 2
    program, module = load(made.model, "pytorch"), load_module(checkpoint)
    for batch, length in ((1, 3), (3, 16), (2, 6)):
        ids = np.random.default_rng(length).integers(0, 50, (batch, length))
        with torch.inference_mode():
            wanted = module(torch.from_numpy(ids), torch.ones(batch, length, dtype=torch.int64)).numpy()
        found = program.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        np.testing.assert_allclose(found["output"], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("Branches", r"choice that depends on the values at 'if \(x @ self.w\).sum\(\) > 0:'", "torch.where"),
        ("FixesBatch", "can't keep 'batch' open: the model fixes it to 2", "any size"),
        ("LoopsOverBatch", "can't keep 'batch' open: the model fixes it to 2", "loop"),
        ("CallsNumpy", r"\.numpy\(\) is not supported", "tensor operations"),
        ("Counts", "output 'output' of 3 samples differs by", "state"),
        ("Draws", "output 'output' of 1 samples differs by", "random"),
        ("Texts", "the model returns str, not tensors", "tensor"),
    ],
)
def test_what_is_in_the_way_is_named(
    odd: Callable[[str], Checkpoint], tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, words: str, hint: str
) -> None:
    with pytest.raises(ExportError, match=words) as caught:
        export(odd(name), tmp_path / "out", {"x": FOUR})
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message
    assert capfd.readouterr() == ("", "")
    assert list((tmp_path / "out").glob("*.json")) == []


def test_a_ready_graph_is_refused(tmp_path: Path) -> None:
    from edgekit.core.errors import SourceError

    graph = Checkpoint(tmp_path, "onnx", "graph", {"format": "onnx"}, "0")
    with pytest.raises(SourceError, match="no PyTorch module"):
        export(graph, tmp_path / "out")
