from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.artifacts import Artifact, TensorSpec
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Context, Quantizer
from edgekit.core.quantization import Int8Scheme
from edgekit.core.registry import create

X86 = Int8Scheme(activations="uint8", symmetric=False, reduce_range=False)
OLD_X86 = Int8Scheme(activations="uint8", symmetric=False, reduce_range=True)
TENSORRT = Int8Scheme(activations="int8", symmetric=True, reduce_range=False)
SAMPLES = np.random.default_rng(1).normal(size=(64, 3, 8, 8)).astype(np.float32)


class Samples:
    """Samples in memory, given out one at a time."""

    digest = "samples"
    name = "samples"

    def __init__(self, images: np.ndarray = SAMPLES) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
        for sample in self.images[: limit or len(self.images)]:
            yield {"image": sample[None]}, [0]


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    """Conv, Relu, Conv, flatten, Gemm: written by hand, so that every name and weight is known."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.normal(size=shape) * 0.3).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="act"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="body", strides=[2, 2]),
        helper.make_node("Flatten", ["c2"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="head", transB=1),
    ]
    weights = [weight("w1", 8, 3, 3, 3), weight("b1", 8), weight("w2", 8, 8, 3, 3), weight("b2", 8), weight("w3", 5, 72), weight("b3", 5)]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        weights,
    )
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    inputs = (TensorSpec("image", "float32", ("batch", 3, 8, 8)),)
    outputs = (TensorSpec("logits", "float32", ("batch", 5)),)
    return Artifact.describe(folder, format="onnx", file="model.onnx", precision="fp32", inputs=inputs, outputs=outputs)


def quantize(name: str, model: Artifact, out: Path, scheme: Int8Scheme | None = X86, **spec: object) -> Artifact:
    out.mkdir()
    quantizer = create(Quantizer, {"use": name, "spec": spec}, "q")
    context = Context(example={"image": SAMPLES[:1]}, calibration=Samples(), scheme=scheme)  # type: ignore[arg-type]
    return quantizer.perform(model, quantizer.plan(model, context), out, context)


def run(model: Artifact) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(str(model.model)).run(None, {"image": SAMPLES})[0])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def zero_points(model: Artifact, operator: str) -> list[np.ndarray]:
    graph = onnx.load(model.model).graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    return [values[n.input[2]] for n in graph.node if n.op_type == operator]


@pytest.mark.parametrize("name", ["onnx_int8_static", "onnx_fp16"])
@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile", "mse"])
def test_quantized_outputs_stay_close(model: Artifact, tmp_path: Path, name: str, calibration: str) -> None:
    made = quantize(name, model, tmp_path / "q", calibration=calibration)
    assert cosine(run(model), run(made)) > 0.99
    onnx.checker.check_model(onnx.load(made.model), full_check=True)


def test_x86_activations_are_unsigned_and_weights_signed_per_channel(model: Artifact, tmp_path: Path) -> None:
    made = quantize("onnx_int8_static", model, tmp_path / "q")
    assert {z.dtype.name for z in zero_points(made, "QuantizeLinear")} == {"uint8"}
    weights = {i.name: numpy_helper.to_array(i) for i in onnx.load(made.model).graph.initializer if i.name.startswith("w1")}
    assert weights["w1_quantized"].dtype == np.int8
    assert weights["w1_scale"].shape == (8,)


def test_tensorrt_activations_are_signed_with_zero_point_zero_and_biases_float(model: Artifact, tmp_path: Path) -> None:
    made = quantize("onnx_int8_static", model, tmp_path / "q", TENSORRT)
    points = zero_points(made, "QuantizeLinear")
    assert {z.dtype.name for z in points} == {"int8"}
    assert not any(z.any() for z in points)
    assert {i.data_type for i in onnx.load(made.model).graph.initializer if i.name in ("b1", "b2", "b3")} == {TensorProto.FLOAT}


def test_reduced_range_keeps_weights_to_seven_bits(model: Artifact, tmp_path: Path) -> None:
    def largest(made: Artifact) -> int:
        values = [numpy_helper.to_array(i) for i in onnx.load(made.model).graph.initializer if i.name.endswith("_quantized")]
        return max(int(np.abs(v.astype(np.int32)).max()) for v in values if v.dtype == np.int8)

    assert largest(quantize("onnx_int8_static", model, tmp_path / "a", OLD_X86)) <= 64
    assert largest(quantize("onnx_int8_static", model, tmp_path / "b", X86)) > 64


def test_per_tensor_weights_have_one_scale(model: Artifact, tmp_path: Path) -> None:
    made = quantize("onnx_int8_static", model, tmp_path / "q", granularity="tensor")
    scales = {i.name: i.dims for i in onnx.load(made.model).graph.initializer if i.name in ("w1_scale", "w2_scale")}
    assert {tuple(d) for d in scales.values()} == {()}


def test_excluded_layers_stay_float_and_the_plan_says_so(model: Artifact, tmp_path: Path) -> None:
    made = quantize("onnx_int8_static", model, tmp_path / "q", exclude=["st*"])
    names = {i.name for i in onnx.load(made.model).graph.initializer}
    assert "w1" in names
    assert "w2_quantized" in names
    assert "excluded by the recipe" in (tmp_path / "q" / "plan.json").read_text()


@pytest.mark.parametrize("name", ["onnx_int8_static", "onnx_int8_dynamic", "onnx_fp16"])
def test_pattern_that_matches_nothing_names_the_nearest_layer(model: Artifact, tmp_path: Path, name: str) -> None:
    with pytest.raises(QuantizationError, match="'stem'"):
        quantize(name, model, tmp_path / "q", exclude=["stemm"])


def test_static_needs_samples_and_a_scheme(model: Artifact, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="int8 kernels"):
        quantize("onnx_int8_static", model, tmp_path / "q", None)
    quantizer = create(Quantizer, "onnx_int8_static", "q")
    context = Context(example={"image": SAMPLES[:1]}, scheme=X86)
    with pytest.raises(QuantizationError, match="calibration samples"):
        quantizer.perform(model, quantizer.plan(model, context), tmp_path, context)


def test_dynamic_keeps_convolutions_in_float(model: Artifact, tmp_path: Path) -> None:
    made = quantize("onnx_int8_dynamic", model, tmp_path / "q")
    kinds = [n.op_type for n in onnx.load(made.model).graph.node]
    assert kinds.count("Conv") == 2
    assert "MatMulInteger" in kinds
    assert cosine(run(model), run(made)) > 0.99


def test_nothing_to_quantize_is_an_error(model: Artifact, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="no layer"):
        quantize("onnx_int8_static", model, tmp_path / "q", exclude=["*"])


def test_same_inputs_give_the_same_bytes(model: Artifact, tmp_path: Path) -> None:
    digests = {quantize("onnx_int8_static", model, tmp_path / str(i)).digest for i in range(2)}
    assert len(digests) == 1


def test_half_precision_beside_two_layers_in_float_still_loads(tmp_path: Path) -> None:
    """The library's converter casts a value once for each float layer that reads it, under one name, which no runtime loads."""
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "left"),
        helper.make_node("Neg", ["a"], ["c"], "right"),
        helper.make_node("Add", ["b", "c"], ["y"], "sum"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    folder = tmp_path / "model"
    folder.mkdir()
    graph = helper.make_graph(nodes, "fork", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx")
    specs = tuple(TensorSpec(name, "float32", ("batch", 4)) for name in "xy")
    model = Artifact.describe(folder, format="onnx", file="model.onnx", precision="fp32", inputs=specs[:1], outputs=specs[1:])
    quantizer = create(Quantizer, {"use": "onnx_fp16", "spec": {"exclude": ["left", "right"]}}, "q")
    (tmp_path / "half").mkdir()
    made = quantizer.perform(model, quantizer.plan(model, Context(example={})), tmp_path / "half", Context(example={}))
    x = np.array([[-1, 2, -3, 4]], np.float32)
    np.testing.assert_allclose(onnxruntime.InferenceSession(made.model).run(None, {"x": x})[0], np.maximum(x, 0) - x)


def test_a_constant_that_is_used_both_ways_is_quantized_both_ways(tmp_path: Path) -> None:
    averages = numpy_helper.from_array(np.repeat(np.eye(4, dtype=np.float32) / 2, 2, axis=1), "averages")
    nodes = [
        helper.make_node("MatMul", ["averages", "image"], ["rows"], name="rows"),
        helper.make_node("Transpose", ["averages"], ["turned"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["rows", "turned"], ["logits"], name="columns"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, n, n]) for name, n in (("image", 8), ("logits", 4))]
    (tmp_path / "pool").mkdir()
    graph = helper.make_graph(nodes, "pool", ends[:1], ends[1:], [averages])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "pool" / "model.onnx")
    inputs, outputs = ((TensorSpec(end.name, "float32", ("batch", 3, n, n)),) for end, n in zip(ends, (8, 4), strict=True))
    pool = Artifact.describe(tmp_path / "pool", format="onnx", file="model.onnx", precision="fp32", inputs=inputs, outputs=outputs)
    made = quantize("onnx_int8_static", pool, tmp_path / "out", OLD_X86)
    assert not any(node.op_type == "Transpose" for node in onnx.load(made.model).graph.node)
    np.testing.assert_allclose(run(made), SAMPLES.reshape(-1, 3, 4, 2, 4, 2).mean((3, 5)), atol=0.05)


def test_dynamic_keeps_an_excluded_linear_layer_in_float(model: Artifact, tmp_path: Path) -> None:
    graph = onnx.load(model.model)
    weights = [numpy_helper.from_array(np.eye(5, dtype=np.float32), "w4"), numpy_helper.from_array(np.zeros(5, np.float32), "b4")]
    graph.graph.initializer.extend(weights)
    graph.graph.node[-1].output[0] = "hidden"
    graph.graph.node.append(helper.make_node("Gemm", ["hidden", "w4", "b4"], ["logits"], name="last", transB=1))
    onnx.save(graph, model.model)
    made = quantize("onnx_int8_dynamic", model, tmp_path / "q", exclude=["head"])
    kinds = {node.name: node.op_type for node in onnx.load(made.model).graph.node}
    assert kinds["head"] == "MatMul"
    assert list(kinds.values()).count("MatMulInteger") == 1
    np.testing.assert_allclose(run(made), run(model), atol=0.1)


def test_dynamic_quantizes_a_linear_layer_that_is_used_twice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = {
        "table": rng.normal(size=(50, 32)),
        "w": rng.normal(size=(32, 32)) / 6,
        "b": rng.normal(size=32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["looked up"], name="embed"),
        helper.make_node("Gemm", ["looked up", "w", "b"], ["once"], name="first", transB=1),
        helper.make_node("Gemm", ["once", "w", "b"], ["twice"], name="second", transB=1),
        helper.make_node("Gemm", ["twice", "table"], ["logits"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tied",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 50])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in stored.items()],
    )
    (tmp_path / "model").mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model" / "model.onnx")
    ends = (TensorSpec("ids", "int64", ("batch",)),), (TensorSpec("logits", "float32", ("batch", 50)),)
    tied = Artifact.describe(tmp_path / "model", format="onnx", file="model.onnx", precision="fp32", inputs=ends[0], outputs=ends[1])
    made = quantize("onnx_int8_dynamic", tied, tmp_path / "q", OLD_X86)
    before, after = (onnxruntime.InferenceSession(m.model).run(None, {"ids": np.arange(50)})[0] for m in (tied, made))
    assert cosine(before, after) > 0.99
    assert [node.op_type for node in onnx.load(made.model).graph.node].count("MatMulInteger") == 3


def test_grouped_upsampling_with_a_bias_stays_in_float_where_each_channel_has_a_scale(model: Artifact, tmp_path: Path) -> None:
    graph = onnx.load(model.model)
    weights = np.random.default_rng(0).normal(size=(8, 4, 2, 2)).astype(np.float32) * 0.3
    graph.graph.initializer.extend([numpy_helper.from_array(weights, "w4"), numpy_helper.from_array(np.zeros(8, np.float32), "b4")])
    graph.graph.node[2].input[0] = "up"
    grouped = {"strides": [1, 1], "pads": [0, 0, 1, 1], "group": 2}  # 8 x 8 as before
    graph.graph.node.insert(2, helper.make_node("ConvTranspose", ["r1", "w4", "b4"], ["up"], name="up", **grouped))
    onnx.save(graph, model.model)
    made = quantize("onnx_int8_static", model, tmp_path / "q")
    rows = {row["layer"]: row for row in json.loads((tmp_path / "q" / "plan.json").read_text())}
    assert (rows["up"]["precision"], rows["body"]["precision"]) == ("fp32", "int8-static")
    assert "bias" in rows["up"]["reason"]
    assert cosine(run(model), run(made)) > 0.98
    quantize("onnx_int8_static", model, tmp_path / "t", granularity="tensor")
    rows = {row["layer"]: row for row in json.loads((tmp_path / "t" / "plan.json").read_text())}
    assert rows["up"]["precision"] == "int8-static"


def test_half_precision_keeps_a_transpose_of_batches_before_a_product_in_float(tmp_path: Path) -> None:
    """With it in fp16, ONNX Runtime ends the process that loads the file."""
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Transpose", ["image"], ["turned"], name="turn", perm=[1, 2, 0, 3]),
        helper.make_node("MatMul", ["turned", "w"], ["logits"], name="head"),
    ]
    shapes = (("image", ("batch", 3, 8, 8)), ("logits", (3, 8, "batch", 4)))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(nodes, "turned", ends[:1], ends[1:], [weight])
    (tmp_path / "model").mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model" / "model.onnx")
    inputs, outputs = ((TensorSpec(name, "float32", shape),) for name, shape in shapes)
    model = Artifact.describe(tmp_path / "model", format="onnx", file="model.onnx", precision="fp32", inputs=inputs, outputs=outputs)
    made = quantize("onnx_fp16", model, tmp_path / "q")
    rows = {row["layer"]: row["precision"] for row in json.loads((tmp_path / "q" / "plan.json").read_text())}
    assert rows == {"turn": "fp32", "head": "fp16"}
    np.testing.assert_allclose(run(made), run(model), atol=0.03)
