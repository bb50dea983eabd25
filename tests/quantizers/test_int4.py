"""Int4 in all three formats: what is stored is the grid, bit for bit, and the runtimes compute with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.unpacked import unpacked
from edgekit.algorithms.int4 import to_grid
from edgekit.core import openvino_ir
from edgekit.core.artifacts import Artifact
from edgekit.core.errors import QuantizationError, RecipeError
from edgekit.core.plugin import Context, Exporter, Host, Quantizer, RuntimeSettings
from edgekit.core.quantization import QuantizationSpec
from edgekit.core.registry import create
from edgekit.core.schema import parse
from edgekit.runner import load as open_model
from edgekit.sessions import NATIVE

ARCH = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.up = nn.Linear(64, 172)
        self.down = nn.Linear(172, 64, bias=False)
        self.head = nn.Linear(64, 5)

    def forward(self, image):
        x = torch.relu(self.depthwise(torch.relu(self.conv(image))))
        x = x.mean(1).flatten(1)
        return self.head(x + self.down(torch.relu(self.up(x))))


def net():
    torch.manual_seed(0)
    return Net()
"""
IMAGES = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)
Weights = dict[str, np.ndarray]
every_format = pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Artifact, Weights]]:
    """The network in a format, its weights as they came or already on the grid of a specification."""
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.factories import find_function
    from edgekit.core.modules import save_module

    known: dict[str, tuple[Artifact, Weights]] = {}

    def get(name: str, **spec: Any) -> tuple[Artifact, Weights]:
        key = json.dumps([name, spec])
        if key not in known:
            folder = tmp_path_factory.mktemp(name)
            (folder / "arch.py").write_text(ARCH, encoding="utf-8")
            module = find_function(f"{folder}/arch.py:net")()
            weights = {}
            for layer, child in module.named_children():
                matrix = child.weight.detach().numpy().reshape(len(child.weight), -1)
                if spec:
                    group = spec.get("group") if child.weight.ndim == 2 else None
                    matrix = to_grid(matrix, group, symmetric=spec.get("symmetric", True)).weights()
                    child.weight.data = torch.from_numpy(matrix.reshape(child.weight.shape))
                weights[layer] = matrix
            for part in ("checkpoint", "out"):
                (folder / part).mkdir()
            description = {"arch": f"{folder}/arch.py:net", "arguments": {}}
            checkpoint: Checkpoint = save_module(module, folder / "checkpoint", source="pytorch", description=description)
            known[key] = (create(Exporter, name, "x").export(checkpoint, folder / "out", Context(example={"image": IMAGES[:1]})), weights)
        return known[key]

    return get


Made = Callable[..., tuple[Artifact, Weights]]


def quantize(model: Artifact, out: Path, **spec: object) -> Artifact:
    out.mkdir()
    quantizer = create(Quantizer, {"use": f"{model.format}_int4", "spec": spec}, "q")
    context = Context(example={})
    return quantizer.perform(model, quantizer.plan(model, context), out, context)


def planned(model: Artifact) -> dict[str, tuple[str, str]]:
    rows = json.loads((model.path / "plan.json").read_text(encoding="utf-8"))
    return {row["layer"]: (row["precision"], row["reason"]) for row in rows}


def run(model: Artifact) -> np.ndarray:
    opened = open_model(model.model, NATIVE[model.format], threads=1, precision="f32")
    outputs = [opened.run({"image": image[None]})["output"] for image in IMAGES]
    opened.close()
    return np.concatenate(outputs)


@every_format
@pytest.mark.parametrize("spec", [{"group": 32}, {"group": 32, "symmetric": False}, {"group": None}], ids=["groups", "zeros", "channels"])
def test_weights_on_a_grid_are_stored_bit_for_bit(name: str, spec: dict[str, Any], made: Made, tmp_path: Path) -> None:
    if name == "tflite" and not spec.get("symmetric", True):
        pytest.skip("refused, see below")
    model, weights = made(name, **spec)
    result = quantize(model, tmp_path / "q", **spec)
    found = unpacked(result)
    assert {"conv", "up", "head"} <= set(found)
    for layer, value in found.items():
        np.testing.assert_array_equal(value, weights[layer], err_msg=layer)
    tolerance = 0.05 if name == "tflite" else 1e-5
    assert np.abs(run(result) - run(model)).max() < tolerance * np.abs(run(model)).max()


@every_format
def test_other_weights_become_the_nearest_points_of_the_grid(name: str, made: Made, tmp_path: Path) -> None:
    model, weights = made(name)
    found = unpacked(quantize(model, tmp_path / "q", group=32))
    np.testing.assert_array_equal(found["up"], to_grid(weights["up"], 32).weights())
    np.testing.assert_array_equal(found["conv"], to_grid(weights["conv"]).weights())


@every_format
def test_groups_that_do_not_divide_a_channel_are_handled_or_told(name: str, made: Made, tmp_path: Path) -> None:
    result = quantize(made(name)[0], tmp_path / "q", group=32)
    precision, reason = planned(result)["down"]
    if name == "tflite":
        assert (precision, reason) == ("fp32", "172 weights a channel are not whole groups of 32")
        assert "down" not in unpacked(result)
    else:
        assert precision == "int4"
        np.testing.assert_array_equal(unpacked(result)["down"], to_grid(made(name)[1]["down"], 32).weights())


@every_format
def test_the_plan_says_what_is_storage_only(name: str, made: Made, tmp_path: Path) -> None:
    plan = planned(quantize(made(name)[0], tmp_path / "q", group=32))
    assert plan["up"] == ("int4", "")
    if name == "tflite":
        assert plan["depthwise"] == ("fp32", "LiteRT has no int4 kernel for it")
    else:
        assert "stored in 4 bits" in plan["conv"][1]
        assert plan["depthwise"][0] == "int4"


@every_format
def test_one_scale_a_tensor_is_honoured(name: str, made: Made, tmp_path: Path) -> None:
    model, weights = made(name)
    found = unpacked(quantize(model, tmp_path / "q", granularity="tensor"))
    np.testing.assert_array_equal(found["up"], to_grid(weights["up"], shared=True).weights())


def test_a_file_is_about_an_eighth_of_its_weights(made: Made, tmp_path: Path) -> None:
    for name in ("onnx", "openvino", "tflite"):
        model, _ = made(name)
        weights = 4 * (64 * 172 + (172 * 64 if name != "tflite" else 0))
        assert model.size - quantize(model, tmp_path / name, group=32).size > 0.7 * weights


@pytest.mark.parametrize(
    ("name", "spec", "said"),
    [
        ("onnx", {"group": 48}, "no groups of 48"),
        ("tflite", {"group": 16}, "no groups of 16"),
        ("tflite", {"symmetric": False}, "no zero points"),
        ("onnx", {"min_sqnr": 30}, "min_sqnr"),
    ],
)
def test_settings_that_a_format_lacks_are_refused(name: str, spec: dict[str, Any], said: str, made: Made, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=said) as problem:
        quantize(made(name)[0], tmp_path / "q", **spec)
    assert problem.value.hint


def test_one_scale_for_all_and_groups_contradict_each_other() -> None:
    with pytest.raises(RecipeError, match="granularity"):
        parse(QuantizationSpec, {"granularity": "tensor", "group": 32}, "quantization")


def test_openvino_keeps_whole_groups_of_a_matrix_product_in_four_bits(made: Made, tmp_path: Path) -> None:
    import openvino

    result = quantize(made("openvino")[0], tmp_path / "q", group=32)
    compiled = openvino.Core().compile_model(str(result.model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [str(node.get_rt_info()["primitiveType"].astype(str)) for node in compiled.get_runtime_model().get_ops()]
    assert sum("i4" in kind for kind in kinds) >= 2


@pytest.mark.slow
def test_openvino_runs_a_product_that_fixed_shapes_would_fold(tmp_path: Path) -> None:
    import openvino
    from openvino import opset13

    x = opset13.parameter([-1, 4, 8], np.float32)
    x.output(0).set_names({"x"})
    ones = opset13.broadcast(opset13.constant(np.float32(1)), opset13.shape_of(x, "i64"))
    weights = np.random.default_rng(0).integers(-7, 8, (8, 8)).astype(np.float32)
    product = opset13.matmul(ones, opset13.constant(weights), False, True)
    (tmp_path / "fp32").mkdir()
    openvino.save_model(openvino.Model([opset13.add(x, product)], [x]), tmp_path / "fp32" / "model.xml", compress_to_fp16=False)
    described = openvino_ir.describe(tmp_path / "fp32", openvino_ir.read(tmp_path / "fp32" / "model.xml"), "fp32", {})
    given = np.zeros((2, 4, 8), np.float32)
    found = next(iter(open_model(quantize(described, tmp_path / "int4").model, "openvino").run({"x": given}).values()))
    np.testing.assert_allclose(found, np.broadcast_to(weights.sum(1), given.shape), rtol=0.02)


def test_the_older_tflite_runtime_refuses_the_file(made: Made, tmp_path: Path) -> None:
    from edgekit.core.errors import SourceError
    from edgekit.sessions import ENVIRONMENTS

    result = quantize(made("tflite")[0], tmp_path / "q")
    host = create(Host, {"use": "venv", "packages": list(ENVIRONMENTS["tflite_runtime"])}, "host")
    with pytest.raises(SourceError, match="FULLY_CONNECTED' version '12'"):
        host.open(result.model, "tflite_runtime", RuntimeSettings())
