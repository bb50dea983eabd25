from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core import tflite_model
from edgekit.core.artifacts import Artifact
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Context, Exporter, Host, Quantizer, RuntimeSettings, Source
from edgekit.core.quantization import Int8Scheme
from edgekit.core.registry import create
from edgekit.runner import load as open_model

SCHEME = Int8Scheme(activations="int8", symmetric=False, reduce_range=False)
IMAGES = np.random.default_rng(1).normal(size=(40, 3, 8, 8)).astype(np.float32)
IDS = np.random.default_rng(2).integers(0, 11, (20, 6))
ARCH = """
import torch
from torch import nn


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU()
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, image):
        x = self.relu(self.stem(image))
        return self.head((x + self.body(x)).mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.query = nn.Linear(16, 16)
        self.out = nn.Linear(16, 16)

    def forward(self, ids):
        x = self.embed(ids)
        x = x + (self.query(x) @ x.transpose(1, 2)).softmax(-1) @ x
        return self.out(x).mean(1)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, image):
        return self.head(self.pool(self.stem(image)).mean((2, 3)))


class Averaged(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("averages", torch.eye(4).repeat_interleave(2, 1) / 2 + torch.rand(4, 8) / 8, persistent=False)

    def forward(self, image):
        return self.averages @ self.stem(image) @ self.averages.T


class Dead(Cnn):
    def forward(self, image):
        dead = self.relu(self.stem(image) - 100)
        return self.head((self.body(dead) + self.stem(image)).mean((2, 3)))


class Hybrid(Transformer):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = x + (self.query(x) @ x.transpose(1, 2)).softmax(-1) @ x
        return self.out(x).mean(1)
"""


class Samples:
    """Arrays in memory, one at a time."""

    name = digest = "samples"

    def __init__(self, arrays: np.ndarray, name: str) -> None:
        self.arrays, self.input = arrays, name

    def __len__(self) -> int:
        return len(self.arrays)

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
        for array in self.arrays[: limit or len(self.arrays)]:
            yield {self.input: array[None]}, [0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    import torch

    from edgekit.core.factories import find_function

    made: dict[str, Artifact] = {}

    def get(name: str) -> Artifact:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            (folder / "arch.py").write_text(ARCH, encoding="utf-8")
            torch.manual_seed(0)
            torch.save(find_function(f"{folder}/arch.py:{name}")().state_dict(), folder / "w.pth")
            for part in ("checkpoint", "out"):
                (folder / part).mkdir()
            wish = {"use": "pytorch", "path": str(folder / "w.pth"), "arch": f"{folder}/arch.py:{name}"}
            example = {"ids": IDS[:1]} if name == "Transformer" else {"image": IMAGES[:1]}
            context = Context(example=example)
            made[name] = create(Exporter, "tflite", "x").export(
                create(Source, wish, "model").fetch(folder / "checkpoint", context), folder / "out", context
            )
        return made[name]

    return get


def quantize(name: str, model: Artifact, out: Path, scheme: Int8Scheme | None = SCHEME, **spec: object) -> Artifact:
    out.mkdir()
    quantizer = create(Quantizer, {"use": name, "spec": spec}, "q")
    data = Samples(IDS, "ids") if model.inputs[0].name == "ids" else Samples(IMAGES, "image")
    context = Context(example={}, calibration=data, scheme=scheme)  # type: ignore[arg-type]
    return quantizer.perform(model, quantizer.plan(model, context), out, context)


def plan(name: str, model: Artifact, **spec: object) -> dict[str, str]:
    quantizer = create(Quantizer, {"use": name, "spec": spec}, "q")
    return {layer.layer: layer.precision for layer in quantizer.plan(model, Context(example={}, scheme=SCHEME))}


def weights(model: Artifact) -> dict[str, tuple[str, int]]:
    """Element type of each layer's weights, and how many scales they have; fp16 is read through its dequantization."""
    tree = tflite_model.read(model.model)
    graph = tree.subgraphs[0]
    makers = {output: node for node in graph.operators for output in node.outputs}
    found = {}
    for layer in tflite_model.layers(tree):
        place = tflite_model.WEIGHTS_AT.get(layer.operator)
        if place is not None:
            index = layer.node.inputs[place]
            index = makers[index].inputs[0] if index in makers else index
            tensor = graph.tensors[index]
            scales = tensor.quantization.scale if tensor.quantization is not None and tensor.quantization.scale is not None else []
            found[layer.name] = (tflite_model._dtypes()[tensor.type], len(scales))
    return found


def versions(model: Artifact) -> dict[str, int]:
    tree = tflite_model.read(model.model)
    return {tflite_model.code_name(code): code.version for code in tree.operatorCodes}


def test_static_cnn_is_int8_from_end_to_end_between_float_inputs_and_outputs(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    model = exported("Cnn")
    assert set(plan("tflite_int8_static", model).values()) == {"int8-static"}
    made = quantize("tflite_int8_static", model, tmp_path / "q")
    assert weights(made) == {"stem": ("int8", 8), "body": ("int8", 8), "head": ("int8", 5)}
    assert [i.dtype for i in (*made.inputs, *made.outputs)] == ["float32", "float32"]
    floats = [t for t in tflite_model.read(made.model).subgraphs[0].tensors if tflite_model._dtypes()[t.type] == "float32"]
    assert len(floats) == 2
    assert made.size < 0.8 * model.size


def test_padding_of_a_max_pool_widens_no_range(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    """It is minus infinity; as a range it made scales that no kernel takes."""
    model = exported("Pooled")
    made = quantize("tflite_int8_static", model, tmp_path / "q")
    found, wanted = (open_model(m.model, "litert", threads=1, precision="f32").run({"image": IMAGES[:1]}) for m in (made, model))
    difference = np.abs(next(iter(found.values())) - next(iter(wanted.values()))).max()
    assert 0 < difference < 0.05


def test_excluded_layer_computes_in_float_between_its_int8_neighbours(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    made = quantize("tflite_int8_static", exported("Cnn"), tmp_path / "q", exclude=["bo*"])
    assert weights(made) == {"stem": ("int8", 8), "body": ("float32", 0), "head": ("int8", 5)}
    kinds = [layer.operator for layer in tflite_model.layers(tflite_model.read(made.model))]
    assert kinds.count("QUANTIZE") == 2
    assert kinds.count("DEQUANTIZE") == 2


def test_minmax_is_the_smallest_and_largest_value_of_all_samples(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    from edgekit.core.quantization import QuantizationSpec
    from edgekit.quantizers._tflite import tensor_ranges

    context = Context(example={}, calibration=Samples(IMAGES, "image"))  # type: ignore[arg-type]
    found = tensor_ranges(exported("Cnn"), QuantizationSpec(samples=7), context)
    assert (found["image"]["min"].item(), found["image"]["max"].item()) == (IMAGES[:7].min(), IMAGES[:7].max())
    cut = tensor_ranges(exported("Cnn"), QuantizationSpec(calibration="percentile", percentile=90), context)
    assert cut["image"]["max"].item() == pytest.approx(np.quantile(IMAGES, 0.95), abs=0.02)
    assert "stem" in found
    assert found["stem"]["min"].item() == 0, "the activation is fused"


def test_per_tensor_weights_have_one_scale(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    made = quantize("tflite_int8_static", exported("Cnn"), tmp_path / "q", granularity="tensor")
    assert weights(made) == {"stem": ("int8", 1), "body": ("int8", 1), "head": ("int8", 1)}


def test_transformer_becomes_dynamic_without_calibration(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    model = exported("Transformer")
    assert plan("tflite_int8_static", model) == dict.fromkeys(("embed", "query", "out"), "int8-dynamic")
    quantizer = create(Quantizer, "tflite_int8_static", "q")
    context = Context(example={}, scheme=SCHEME)
    made = quantizer.perform(model, quantizer.plan(model, context), tmp_path, context)
    assert made.digest == quantize("tflite_int8_dynamic", model, tmp_path / "e").digest


def test_convolution_before_a_transformer_becomes_static(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    model = exported("Hybrid")
    assert plan("tflite_int8_static", model) == {"patch": "int8-static", "query": "int8-dynamic", "out": "int8-dynamic"}
    made = quantize("tflite_int8_static", model, tmp_path / "q")
    kinds = {layer.name: layer.operator for layer in tflite_model.layers(tflite_model.read(made.model))}
    assert [kind for kind in kinds.values() if kind in ("QUANTIZE", "DEQUANTIZE")] == ["QUANTIZE", "DEQUANTIZE"]
    right, found = (open_model(m.model, "litert", threads=1, precision="f32").run({"image": IMAGES[:1]})["output"] for m in (model, made))
    np.testing.assert_allclose(found, right, atol=0.1 * np.abs(right).max())


def test_one_scale_a_channel_asks_for_kernels_that_know_it(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    channel = versions(quantize("tflite_int8_dynamic", exported("Transformer"), tmp_path / "c"))
    tensor = versions(quantize("tflite_int8_dynamic", exported("Transformer"), tmp_path / "t", granularity="tensor"))
    assert (channel["FULLY_CONNECTED"], channel["EMBEDDING_LOOKUP"]) == (12, 4)
    assert (tensor["FULLY_CONNECTED"], tensor["EMBEDDING_LOOKUP"]) < (10, 4)


def test_half_precision_of_all_but_the_excluded(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    made = quantize("tflite_fp16", exported("Cnn"), tmp_path / "q", exclude=["head"])
    assert weights(made) == {"stem": ("float16", 0), "body": ("float16", 0), "head": ("float32", 0)}


def test_int8_of_another_kind_than_tflite_has_is_refused(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    for index, change in enumerate(({"activations": "uint8"}, {"symmetric": True}, {"reduce_range": True})):
        with pytest.raises(QuantizationError, match="signed activations"):
            quantize("tflite_int8_static", exported("Cnn"), tmp_path / str(index), SCHEME.model_copy(update=change))


def test_names_are_short_and_unique(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    made = quantize("tflite_int8_static", exported("Cnn"), tmp_path / "q")
    names = [tensor.name.decode() for tensor in tflite_model.read(made.model).subgraphs[0].tensors]
    assert len(names) == len(set(names))
    assert max(map(len, names)) < 24


@pytest.mark.slow
def test_old_interpreter_refuses_what_it_would_compute_wrongly_and_runs_the_rest(
    exported: Callable[[str], Artifact], tmp_path: Path
) -> None:
    from edgekit.core.errors import InputError, SetupError
    from edgekit.sessions import ENVIRONMENTS

    host = create(Host, {"use": "venv", "packages": list(ENVIRONMENTS["tflite_runtime"])}, "host")
    model = exported("Transformer")
    right = open_model(model.model, "litert", threads=1, precision="f32").run({"ids": IDS[:1]})["output"]
    tensor = quantize("tflite_int8_dynamic", model, tmp_path / "t", granularity="tensor")
    with host.open(tensor.model, "tflite_runtime", RuntimeSettings()) as session:
        np.testing.assert_allclose(session.run({"ids": IDS[:1]})["output"], right, atol=0.05 * np.abs(right).max())
    channel = quantize("tflite_int8_dynamic", model, tmp_path / "c")
    with pytest.raises((InputError, SetupError), match="version"):
        host.open(channel.model, "tflite_runtime", RuntimeSettings())


def test_a_matrix_that_two_kinds_of_operators_read_stays_in_float(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    model = exported("Averaged")
    made = quantize("tflite_int8_static", model, tmp_path / "out")
    left, right = (open_model(each.model, "litert").run({"image": IMAGES[:1]}) for each in (model, made))
    wanted, found = (next(iter(side.values())) for side in (left, right))
    assert np.abs(wanted - found).max() < 0.1 * np.abs(wanted).max()
    assert set(plan("tflite_int8_static", model).values()) == {"fp32", "int8-static"}


@pytest.mark.parametrize("calibration", ["minmax", "mse", "percentile"])
def test_a_tensor_that_is_always_zero_spoils_nothing(exported: Callable[[str], Artifact], tmp_path: Path, calibration: str) -> None:
    made = quantize("tflite_int8_static", exported("Dead"), tmp_path / "q", calibration=calibration)
    before, after = (open_model(m.model, "litert").run({"image": IMAGES[:1]})["output"] for m in (exported("Dead"), made))
    np.testing.assert_allclose(after, before, atol=0.1 * np.abs(before).max())
