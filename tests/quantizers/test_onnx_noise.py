"""MSE ranges and a wished signal-to-noise ratio, on a graph whose noisy layers are known."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.algorithms.ranges import INT8, INT8_SYMMETRIC, UINT8, Grid
from edgekit.core.artifacts import Artifact, TensorSpec
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Context, Quantizer
from edgekit.core.progress import Silent
from edgekit.core.quantization import Int8Scheme, LayerPlan, QuantizationSpec
from edgekit.core.registry import create
from edgekit.quantizers._onnx_ranges import calibrated_ranges, following_functions

X86 = Int8Scheme(activations="uint8", symmetric=False, reduce_range=False)
TENSORRT = Int8Scheme(activations="int8", symmetric=True, reduce_range=False)
IMAGES = np.random.default_rng(1).laplace(size=(64, 3, 16, 16)).astype(np.float32)


class Samples:
    """As many samples as wanted, made one at a time."""

    digest = "samples"
    name = "samples"

    def __init__(self, count: int = len(IMAGES)) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
        for index in range(min(limit or self.count, self.count)):
            yield {"image": IMAGES[index % len(IMAGES)][None].copy()}, [0]


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[int, int]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, done: int, total: int, said: str = "") -> None:
        self.steps.append((done, total))


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    """Stem, ReLU, body, LeakyReLU, head. One channel of the stem is 50 times the others and the body ignores it: noise for nothing."""
    rng = np.random.default_rng(0)
    stem = rng.normal(size=(8, 3, 3, 3)) * 0.3
    body = rng.normal(size=(8, 8, 3, 3)) * 0.3
    stem[0] *= 50
    body[:, 0] = 0
    weights = {
        "w1": stem,
        "b1": rng.normal(size=8),
        "w2": body,
        "b2": rng.normal(size=8),
        "w3": rng.normal(size=(5, 1568)),
        "b3": np.ones(5),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="act"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="body"),
        helper.make_node("LeakyRelu", ["c2"], ["r2"], name="leaky", alpha=0.05),
        helper.make_node("Flatten", ["r2"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "noisy",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    inputs = (TensorSpec("image", "float32", ("batch", 3, 16, 16)),)
    outputs = (TensorSpec("logits", "float32", ("batch", 5)),)
    return Artifact.describe(folder, format="onnx", file="model.onnx", precision="fp32", inputs=inputs, outputs=outputs)


def context(scheme: Int8Scheme = X86, samples: int = len(IMAGES), listener: Silent | None = None) -> Context:
    return Context(example={"image": IMAGES[:1]}, calibration=Samples(samples), scheme=scheme, progress=listener or Silent())  # type: ignore[arg-type]


def static(**spec: object) -> Quantizer:
    return create(Quantizer, {"use": "onnx_int8_static", "spec": spec}, "q")


def quantize(model: Artifact, out: Path, scheme: Int8Scheme = X86, **spec: object) -> tuple[Artifact, list[LayerPlan]]:
    out.mkdir()
    plan = static(**spec).plan(model, context(scheme))
    return static(**spec).perform(model, plan, out, context(scheme)), plan


def run(model: Artifact) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(str(model.model)).run(None, {"image": IMAGES})[0])


def ratio(model: Artifact, made: Artifact, count: int = len(IMAGES)) -> float:
    right, found = run(model)[:count], run(made)[:count]
    return float(10 * np.log10((right**2).sum() / ((found - right) ** 2).sum()))


def ranges(made: Artifact) -> dict[str, tuple[float, float]]:
    """Lowest and highest value that each activation's grid represents."""
    graph = onnx.load(made.model).graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = float(values[node.input[1]]), int(values[node.input[2]])
            found[node.input[1].removesuffix("_scale")] = ((0 - zero) * scale, (255 - zero) * scale)
    return found


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_grids_are_those_of_the_quantizer(kind: str, symmetric: bool) -> None:
    from onnxruntime.quantization.quant_utils import compute_scale_zp, get_qmin_qmax_for_qType

    grid = {"uint8": Grid(UINT8.low, UINT8.high, symmetric), "int8": INT8_SYMMETRIC if symmetric else INT8}[kind]
    low, high = get_qmin_qmax_for_qType(getattr(TensorProto, kind.upper()), symmetric=symmetric)
    for ends in ((-1.0, 3.0), (0.0, 5.0), (-2.5, 0.0), (-1e-3, 7.7)):
        zero, scale = compute_scale_zp(*(np.float32(end) for end in ends), low, high, symmetric)
        assert grid.parameters(*ends) == (pytest.approx(float(scale)), int(zero))


def test_mse_ranges_clip_long_tails_but_never_the_outputs() -> None:
    doubling = helper.make_node("Conv", ["image", "w"], ["doubled"], name="doubling", group=3)
    graph = helper.make_graph(
        [doubling],
        "doubling",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [numpy_helper.from_array(np.full((3, 1, 1, 1), 2, dtype=np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    found = calibrated_ranges(model, ["Conv"], QuantizationSpec(calibration="mse"), X86, context())
    assert found["doubled"].range_value == (2 * IMAGES.min(), 2 * IMAGES.max())
    assert 0.8 * IMAGES.max() < found["image"].range_value[1] < 0.97 * IMAGES.max()
    assert 0.8 * IMAGES.min() > found["image"].range_value[0] > 0.97 * IMAGES.min()


def test_mse_ranges_are_judged_after_the_activation(model: Artifact, tmp_path: Path) -> None:
    widest = ranges(quantize(model, tmp_path / "a", calibration="minmax")[0])["c2"]
    best = ranges(quantize(model, tmp_path / "b", calibration="mse")[0])["c2"]
    assert best[0] > 0.75 * widest[0]  # a twentieth of what is clipped below zero reaches the next layer
    assert best[1] > 0.8 * widest[1]


def test_functions_are_found_where_a_tensor_goes_nowhere_else() -> None:
    nodes = [
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Clip", ["b", "low", "high"], ["c"]),
        helper.make_node("HardSwish", ["c"], ["d"]),
        helper.make_node("Sigmoid", ["c"], ["e"]),
        helper.make_node("LeakyRelu", ["e"], ["f"], alpha=0.5),
        helper.make_node("Conv", ["f", "w"], ["g"]),
        helper.make_node("Relu", ["g"], ["h"]),
        helper.make_node("Clip", ["h", "", "computed"], ["i"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("g", "i")]
    limits = [numpy_helper.from_array(np.float32(value), name) for name, value in (("low", -1), ("high", 4))]
    found = following_functions(helper.make_model(helper.make_graph(nodes, "g", [], outputs, limits)))
    x = np.array([-2.0, 0.5, 9.0])
    assert {name: function(x).tolist() for name, function in found.items()} == {"a": [0, 0.5, 9], "b": [-1, 0.5, 4], "e": [-1, 0.5, 9]}


def test_noisy_layers_stay_in_float_until_the_outputs_are_clean_enough(model: Artifact, tmp_path: Path) -> None:
    everything, _ = quantize(model, tmp_path / "a")
    made, plan = quantize(model, tmp_path / "b", min_sqnr=25)
    kept = {layer.layer: layer.reason for layer in plan if layer.precision == "fp32"}
    assert ratio(model, everything) < 20
    assert ratio(model, made, 32) >= 25
    assert set(kept) == {"stem", "act", "body"}
    assert kept["act"] == "follows stem"
    assert all(kept[name].endswith(" dB alone; kept in float to reach 25 dB") for name in ("stem", "body"))
    assert float(kept["stem"].split()[0]) < 25
    head = next(layer for layer in plan if layer.layer == "head")
    assert head.precision == "int8-static"
    assert float(head.reason.removesuffix(" dB alone")) > 30
    weights = {i.name for i in onnx.load(made.model).graph.initializer}
    assert {"w1", "w2", "w3_quantized"} <= weights


def test_a_modest_wish_keeps_all_layers_integer(model: Artifact, tmp_path: Path) -> None:
    plan = static(min_sqnr=5).plan(model, context())
    assert all(layer.precision == "int8-static" for layer in plan)


def test_layers_that_the_recipe_excludes_are_neither_measured_nor_counted(model: Artifact, tmp_path: Path) -> None:
    listener = Listener()
    plan = static(min_sqnr=25, exclude=["stem", "body"]).plan(model, context(listener=listener))
    assert {layer.layer: layer.reason for layer in plan if layer.precision == "fp32"} == dict.fromkeys(
        ("stem", "body"), "excluded by the recipe"
    )
    assert listener.steps[-1] == (1, 1)
    assert listener.notes[0].startswith("0 of 1 layers stay in float; outputs then at ")


def test_a_wish_beyond_int8_says_what_can_be_had(model: Artifact) -> None:
    with pytest.raises(QuantizationError, match=r"at 90 dB leave no layer in int8 \(hint: ask for less: .* reaches [3-6]\d dB alone"):
        static(min_sqnr=90).plan(model, context())


def test_a_wish_needs_samples_and_a_scheme(model: Artifact) -> None:
    with pytest.raises(QuantizationError, match="calibration samples"):
        static(min_sqnr=20).plan(model, Context(example={"image": IMAGES[:1]}, scheme=X86))
    with pytest.raises(QuantizationError, match="int8 kernels"):
        static(min_sqnr=20).plan(model, Context(example={"image": IMAGES[:1]}, calibration=Samples()))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["onnx_int8_dynamic", "onnx_fp16"])
def test_quantizers_that_do_not_measure_refuse_the_wish(model: Artifact, name: str) -> None:
    quantizer = create(Quantizer, {"use": name, "spec": {"min_sqnr": 20}}, "q")
    with pytest.raises(QuantizationError, match="min_sqnr"):
        quantizer.plan(model, context())


def test_the_wish_holds_on_a_symmetric_target(model: Artifact, tmp_path: Path) -> None:
    made, plan = quantize(model, tmp_path / "q", TENSORRT, calibration="mse", min_sqnr=25)
    assert ratio(model, made, 32) >= 25
    assert next(layer for layer in plan if layer.layer == "head").precision == "int8-static"


def test_plan_and_bytes_are_the_same_every_time(model: Artifact, tmp_path: Path) -> None:
    first, second = (quantize(model, tmp_path / str(i), calibration="mse", min_sqnr=25) for i in range(2))
    assert first[1] == second[1]
    assert first[0].digest == second[0].digest


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile", "mse"])
def test_memory_does_not_grow_with_the_samples(model: Artifact, tmp_path: Path, calibration: str) -> None:
    def peak(samples: int) -> int:
        quantizer = static(calibration=calibration, samples=samples)
        plan = quantizer.plan(model, context(samples=samples))
        out = tmp_path / str(samples)
        out.mkdir()
        tracemalloc.start()
        quantizer.perform(model, plan, out, context(samples=samples))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    quantize(model, tmp_path / "warm", calibration=calibration)
    assert peak(96) < 1.1 * peak(16)
