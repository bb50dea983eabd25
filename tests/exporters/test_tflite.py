from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.core import tflite_model
from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.errors import ExportError
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context, Exporter, Source
from edgekit.core.registry import create
from edgekit.exporters._tflite_broadcasts import _repetition
from edgekit.runner import load as open_model

TOKENS = {"input_ids": np.arange(12, dtype=np.int64)[None] % 7, "attention_mask": np.ones((1, 12), np.int64)}
ARCH = """
import torch
from torch import nn


class Subsampled(nn.Module):
    \"\"\"Slices and reshapes, as shortcuts without parameters and old heads have them.\"\"\"

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, 3, padding=1, stride=2)
        self.head = nn.Linear(64, 2)

    def forward(self, x):
        x = self.conv(x).relu()
        x = self.down(x) + x[:, :, ::2, ::2]
        return self.head(x.reshape(x.shape[0], -1))


class Masked(nn.Module):
    \"\"\"Takes a mask of keys [N, S] by looking it up token by token, or an additive one [N, 1, 1, S].\"\"\"

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        scores = x @ x.transpose(1, 2)
        if attention_mask.dim() == 2:
            rows = torch.arange(x.shape[0])[:, None, None]
            allowed = attention_mask.bool()[rows, torch.arange(x.shape[1])[None, None, :]]
            scores = torch.where(allowed, scores, torch.finfo(torch.float32).min)
        else:
            scores = scores + attention_mask[:, 0]
        return {"logits": self.head((scores.softmax(-1) @ x)[:, 0])}


class Counting(Masked):
    \"\"\"Means something else by the mask: it can't be widened.\"\"\"

    def forward(self, input_ids, attention_mask):
        if attention_mask.dim() != 2:
            return {"logits": attention_mask.sum((1, 2, 3))[:, None].expand(-1, 2)}
        return {"logits": self.head(self.embed(input_ids).mean(1)) * attention_mask.sum(1, keepdim=True)}


class OneBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(x) + x.sum(0, keepdim=True)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.eye(4))

    def forward(self, x):
        return torch.linalg.eigvals(x @ self.w).real
"""


def fetch(folder: Path, name: str) -> Checkpoint:
    """A checkpoint of one of the modules above, with its own initial weights."""
    from edgekit.core.factories import find_function

    (folder / "arch.py").write_text(ARCH, encoding="utf-8")
    torch.manual_seed(0)
    torch.save(find_function(f"{folder}/arch.py:{name}")().state_dict(), folder / f"{name}.pth")
    (folder / "checkpoint").mkdir()
    source = create(Source, {"use": "pytorch", "path": str(folder / f"{name}.pth"), "arch": f"{folder}/arch.py:{name}"}, "model")
    return source.fetch(folder / "checkpoint", Context(example={}))


def export(checkpoint: Checkpoint, out: Path, example: dict[str, np.ndarray]) -> Artifact:
    out.mkdir()
    return create(Exporter, "tflite", "x").export(checkpoint, out, Context(example=example))


def run(model: Artifact, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    opened = open_model(model.model, "litert", threads=1, precision="f32")
    return opened.run(inputs)


def operators(model: Artifact) -> dict[str, str]:
    return {layer.name: layer.operator for layer in tflite_model.layers(tflite_model.read(model.model))}


def image(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, 1, 8, 8)).astype(np.float32)


def test_slices_and_reshapes_of_one_sample_serve_any_batch(tmp_path: Path) -> None:
    checkpoint = fetch(tmp_path, "Subsampled")
    made = export(checkpoint, tmp_path / "out", {"image": image(1)})
    assert {"STRIDED_SLICE", "RESHAPE"} <= set(operators(made).values())
    assert made.inputs[0].shape == ("batch", 1, 8, 8)
    with torch.inference_mode():
        right = load_module(checkpoint)(torch.from_numpy(image(5))).numpy()
    np.testing.assert_allclose(run(made, {"image": image(5)})["output"], right, atol=1e-5)


def test_layers_bear_the_names_of_their_modules(tmp_path: Path) -> None:
    made = export(fetch(tmp_path, "Subsampled"), tmp_path / "out", {"image": image(1)})
    found = operators(made)
    assert (found["conv"], found["down"], found["head"]) == ("DEPTHWISE_CONV_2D", "CONV_2D", "FULLY_CONNECTED")
    names = [t.name for t in tflite_model.read(made.model).subgraphs[0].tensors]
    assert len(names) == len(set(names))


def test_projections_of_one_input_keep_their_names(tmp_path: Path) -> None:
    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (torch.nn.Linear(8, 8) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1) @ self.value(x)

    example = {"x": np.ones((1, 4, 8), np.float32)}
    made = create(Exporter, "tflite", "exporters").write(Attention().eval(), tmp_path, Context(example=example))
    found = {name for name, kind in operators(made).items() if kind == "FULLY_CONNECTED"}
    assert found == {"query", "key", "value", "FullyConnected"}


def test_the_halves_of_a_gate_keep_their_names(tmp_path: Path) -> None:
    class Gate(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up, self.down = (torch.nn.Linear(8, 8, bias=False) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))

    example = {"x": np.ones((1, 4, 8), np.float32)}
    found = operators(create(Exporter, "tflite", "exporters").write(Gate().eval(), tmp_path, Context(example=example)))
    assert {name for name, kind in found.items() if kind == "FULLY_CONNECTED"} == {"gate", "up", "down"}


def test_a_weight_that_is_computed_from_others_is_exported(tmp_path: Path) -> None:
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(4, 4, 3, padding=1), dim=2)
    module = torch.nn.Sequential(normed, torch.nn.ReLU()).eval()
    x = np.random.default_rng(0).normal(size=(1, 4, 8)).astype(np.float32)
    made = create(Exporter, "tflite", "exporters").write(module, tmp_path, Context(example={"input": x}))
    (found,) = run(made, {"input": x}).values()
    np.testing.assert_allclose(found, module(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def test_a_graph_that_mixes_samples_stays_at_one(tmp_path: Path) -> None:
    made = export(fetch(tmp_path, "OneBatch"), tmp_path / "out", {"x": np.ones((1, 4), np.float32)})
    assert made.inputs[0].shape == (1, 4)
    assert [path.name for path in made.files] == ["model.tflite"], "the trial is gone"


def test_mask_of_keys_is_not_looked_up_token_by_token(tmp_path: Path) -> None:
    checkpoint = fetch(tmp_path, "Masked")
    made = export(checkpoint, tmp_path / "out", TOKENS)
    assert "GATHER_ND" not in operators(made).values()
    assert [(i.name, i.dtype) for i in made.inputs] == [("input_ids", "int32"), ("attention_mask", "int32")]
    mask = TOKENS["attention_mask"].copy()
    mask[:, 7:] = 0
    with torch.inference_mode():
        right = load_module(checkpoint)(torch.from_numpy(TOKENS["input_ids"]), torch.from_numpy(mask))["logits"].numpy()
    np.testing.assert_allclose(run(made, {**TOKENS, "attention_mask": mask})["logits"], right, atol=1e-5)


def test_mask_that_means_something_else_stays_as_it_is(tmp_path: Path) -> None:
    checkpoint = fetch(tmp_path, "Counting")
    made = export(checkpoint, tmp_path / "out", TOKENS)
    with torch.inference_mode():
        right = load_module(checkpoint)(**{name: torch.from_numpy(v) for name, v in TOKENS.items()})["logits"].numpy()
    np.testing.assert_allclose(run(made, TOKENS)["logits"], right, atol=1e-5)


def test_unknown_operator_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="linalg_eig") as problem:
        export(fetch(tmp_path, "Odd"), tmp_path / "out", {"x": np.eye(4, dtype=np.float32)[None]})
    assert "\n" not in str(problem.value)


def test_flatbuffer_passes_through_and_an_onnx_graph_is_refused(tmp_path: Path) -> None:
    first = export(fetch(tmp_path, "OneBatch"), tmp_path / "out", {"x": np.ones((1, 4), np.float32)})
    source = Checkpoint.describe(first.path, "tflite", "graph", {"format": "tflite", "file": "model.tflite"})
    again = export(source, tmp_path / "again", {"x": np.ones((1, 4), np.float32)})
    assert again.model.read_bytes() == first.model.read_bytes()
    assert (again.inputs, again.outputs) == (first.inputs, first.outputs)
    source.path.joinpath("model.tflite").write_bytes(first.model.read_bytes()[:200])
    with pytest.raises(ExportError, match="not a TFLite model"):
        export(source, tmp_path / "truncated", {})
    graph = Checkpoint.describe(first.path, "onnx", "graph", {"format": "onnx", "file": "model.tflite"})
    with pytest.raises(ExportError, match="does not become TFLite") as problem:
        export(graph, tmp_path / "refused", {})
    assert "PyTorch" in problem.value.hint


def test_layers_of_a_llama_keep_their_names(tmp_path: Path) -> None:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4, use_cache=False
    )
    example = {"input_ids": TOKENS["input_ids"], "attention_mask": TOKENS["attention_mask"]}
    model = transformers.LlamaForCausalLM(config).eval()
    found = set(operators(create(Exporter, "tflite", "exporters").write(model, tmp_path, Context(example=example))))
    parts = [f"self_attn.{side}_proj" for side in "qkvo"] + [f"mlp.{side}_proj" for side in ("gate", "up", "down")]
    assert {f"model.layers.0.{part}" for part in parts} <= found


class Repeats(torch.nn.Module):
    """Repeats each key for the queries that share it, as grouped-query attention does: three of them, and forty."""

    def forward(self, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch, heads, places, size = keys.shape
        doubled = (keys * 2)[:, :, None]
        return tuple(doubled.expand(batch, heads, n, places, size).reshape(batch, heads * n, places, size) + 1 for n in (3, 40))


def test_what_is_repeated_a_few_times_is_joined_to_itself(tmp_path: Path) -> None:
    module, keys = Repeats().eval(), np.random.default_rng(0).normal(size=(1, 2, 5, 6)).astype(np.float32)
    model = create(Exporter, "tflite", "exporters").write(module, tmp_path, Context(example={"keys": keys}))
    found = list(operators(model).values())
    assert (found.count("CONCATENATION"), found.count("BROADCAST_TO")) == (1, 1)  # forty times is no list of inputs
    with torch.inference_mode():
        wanted = [value.numpy() for value in module(torch.from_numpy(keys))]
    for made, right in zip(run(model, {"keys": keys}).values(), wanted, strict=True):
        np.testing.assert_allclose(made, right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ([1, 4, 1, 8], [1, 4, 2, 8], (2, 2)),
        ([1, 4, 2, 8], [1, 4, 2, 8], (0, 0)),
        ([1, 1, 1, 8], [1, 4, 2, 8], (0, 0)),
        ([4, 2, 8], [1, 4, 2, 8], (0, 0)),
    ],
)
def test_a_repetition_is_along_one_axis(before: list[int], after: list[int], found: tuple[int, int]) -> None:
    assert _repetition(before, after) == found


def test_the_bias_of_a_transposed_convolution_has_one_axis(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.ConvTranspose2d(1, 4, 2, stride=2), torch.nn.BatchNorm2d(4)).eval()
    with torch.no_grad():
        for values in (module[1].running_mean, module[1].running_var):
            values.uniform_(0.3, 2)
    made = create(Exporter, "tflite", "x").write(module, tmp_path, Context(example={"image": image(1)}))
    model = tflite_model.read(made.model)
    (layer,) = (found for found in tflite_model.layers(model) if found.operator == "TRANSPOSE_CONV")
    assert list(model.subgraphs[0].tensors[layer.node.inputs[3]].shape) == [4]
    with torch.inference_mode():
        np.testing.assert_allclose(run(made, {"image": image(1)})["output"], module(torch.from_numpy(image(1))).numpy(), atol=1e-5)
