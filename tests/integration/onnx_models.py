"""ONNX models as others write them: any opset, control flow, odd types. Each is small; most take ``x`` [N, 1, 4, 4]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(2, 1, 3, 3)).astype(np.float32)
WEIGHT = RNG.normal(size=(16, 3)).astype(np.float32)
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4, 4])

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {}
REFUSED: dict[str, str] = {}
"""Word of the one line that refuses a model."""


def model(refused: str = "") -> Callable[[Callable[[], onnx.ModelProto]], Callable[[], onnx.ModelProto]]:
    def register(make: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
        MODELS[make.__name__] = make
        if refused:
            REFUSED[make.__name__] = refused
        return make

    return register


def built(
    nodes: list[onnx.NodeProto],
    outputs: list[Any] | None = None,
    inputs: list[Any] | None = None,
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    *,
    ir: int = 8,
    more: dict[str, int] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()]
    inputs = list(inputs or [X])
    if ir < 4:  # weights had to be inputs
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in stored]
    graph = helper.make_graph(nodes, "g", inputs, outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])], stored)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, version) for name, version in (more or {}).items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, **options)


def classifier(*middle: onnx.NodeProto, opset: int, ir: int = 8, **weights: np.ndarray) -> onnx.ModelProto:
    """Something on ``x`` that ends as ``m``, then a product to three values."""
    nodes = [*middle, helper.make_node("Flatten", ["m"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    return built(nodes, weights={"w": WEIGHT, **weights}, opset=opset, ir=ir)


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, **attributes)


@model()
def opset_7_weights_are_inputs() -> onnx.ModelProto:
    ones = np.ones(2, np.float32)
    middle = [
        node("Conv", ["x", "k"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "one", "zero", "zero", "one"], ["b"]),
        node("Relu", ["b"], ["r"]),
        node("AveragePool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Upsample", ["p"], ["u"], mode="nearest", scales=[1.0, 1.0, 2.0, 1.0]),
        node("Dropout", ["u"], ["m"], ratio=0.5),
    ]
    return classifier(*middle, opset=7, ir=3, k=KERNEL, one=ones, zero=0 * ones)


@model()
def opset_9_upsample_by_input() -> onnx.ModelProto:
    middle = [node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), node("Upsample", ["p", "s"], ["m"], mode="linear")]
    return classifier(*middle, opset=9, ir=4, s=np.array([1, 1, 2, 2], np.float32))


@model()
def opset_10_slice_and_resize() -> onnx.ModelProto:
    middle = [node("Slice", ["x", "from", "to", "axes"], ["h"]), node("Resize", ["h", "s"], ["m"], mode="nearest")]
    numbers = {"from": np.array([0]), "to": np.array([2]), "axes": np.array([2])}
    return classifier(*middle, opset=10, ir=5, s=np.array([1, 1, 2, 1], np.float32), **numbers)


@model()
def opset_11_clip_and_pad() -> onnx.ModelProto:
    middle = [
        node("Clip", ["x", "low", "high"], ["c"]),
        node("Pad", ["c", "pads"], ["p"]),
        node("MaxPool", ["p"], ["m"], kernel_shape=[3, 3], strides=[1, 1]),
    ]
    numbers = {"low": np.float32(-1), "high": np.float32(1), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    return classifier(*middle, opset=11, ir=6, **{name: np.asarray(value) for name, value in numbers.items()})


@model()
def opset_12_softmax_over_all_that_follows() -> onnx.ModelProto:
    middle = [node("Softmax", ["x"], ["s"], axis=1), node("Squeeze", ["s"], ["q"], axes=[1]), node("Unsqueeze", ["q"], ["m"], axes=[1])]
    return classifier(*middle, opset=12, ir=7)


@model()
def opset_13_constants_in_nodes() -> onnx.ModelProto:
    shape = node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([0, -1])))
    more = [node("Shape", ["x"], ["sh"]), node("Gather", ["sh", "zero"], ["n"]), node("Cast", ["n"], ["nf"], to=TensorProto.FLOAT)]
    ends = [node("Reshape", ["x", "shape"], ["f"]), node("MatMul", ["f", "w"], ["p"]), node("Add", ["p", "nf"], ["q"])]
    return built([shape, *more, *ends, node("Sub", ["q", "nf"], ["y"])], weights={"w": WEIGHT, "zero": np.array(0)}, opset=13, ir=7)


@model()
def opset_21() -> onnx.ModelProto:
    middle = [node("LayerNormalization", ["x", "g"], ["l"], axis=-1), node("Gelu", ["l"], ["m"], approximate="tanh")]
    return classifier(*middle, opset=21, ir=10, g=np.ones(4, np.float32))


@model()
def opset_23_rms_normalization() -> onnx.ModelProto:
    return classifier(node("RMSNormalization", ["x", "g"], ["m"], axis=-1), opset=23, ir=11, g=np.ones(4, np.float32))


@model()
def control_flow_if() -> onnx.ModelProto:
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    then = helper.make_graph([node("Relu", ["x"], ["o"])], "then", [], [out])
    other = helper.make_graph([node("Neg", ["x"], ["o"])], "else", [], [out])
    middle = [
        node("ReduceSum", ["x"], ["t"], keepdims=0),
        node("Greater", ["t", "zero"], ["positive"]),
        node("If", ["positive"], ["m"], then_branch=then, else_branch=other),
    ]
    return classifier(*middle, opset=13, zero=np.array(0, np.float32))


@model()
def control_flow_loop() -> onnx.ModelProto:
    def value(name: str, kind: int, shape: list[Any] | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [node("Mul", ["state", "half"], ["next"]), node("Identity", ["going"], ["on"])],
        "body",
        [value("i", TensorProto.INT64, []), value("going", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(0.5, np.float32), "half")],
    )
    return classifier(node("Loop", ["three", "", "x"], ["m"], body=body), opset=16, three=np.array(3))


@model()
def every_axis_varies() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "channels", "height", "width"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "channels"])
    return built([node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], [y], [x], opset=13)


@model()
def half_precision() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["N", 1, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["N", 3])
    nodes = [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["y"])]
    return built(nodes, [y], [x], {"w": WEIGHT.astype(np.float16)}, opset=13)


@model()
def int64_inputs() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.INT64, ["N", "length"])
    table = RNG.normal(size=(10, 3)).astype(np.float32)
    return built(
        [node("Gather", ["table", "x"], ["e"]), node("ReduceMax", ["e"], ["y"], axes=[1], keepdims=0)], None, [x], {"table": table}
    )


@model()
def a_function_of_its_own() -> onnx.ModelProto:
    function = helper.make_function("local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)])
    nodes = [node("Twice", ["x"], ["m"], domain="local"), node("Flatten", ["m"], ["f"]), node("MatMul", ["f", "w"], ["y"])]
    return built(nodes, weights={"w": WEIGHT}, more={"local": 1}, functions=[function])


@model()
def operators_of_onnx_runtime() -> onnx.ModelProto:
    nodes = [
        node("Gelu", ["x"], ["m"], domain="com.microsoft"),
        node("Flatten", ["m"], ["f"]),
        node("FusedMatMul", ["f", "w"], ["y"], domain="com.microsoft", alpha=0.5),
    ]
    return built(nodes, weights={"w": WEIGHT}, more={"com.microsoft": 1})


@model()
def quantized_already() -> onnx.ModelProto:
    scale, zero = np.array(0.05, np.float32), np.array(128, np.uint8)
    middle = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["m"])]
    return classifier(*middle, opset=13, s=scale, z=zero)


@model(refused="acme.Sharpen")
def foreign_domain() -> onnx.ModelProto:
    nodes = [node("Sharpen", ["x"], ["m"], domain="acme"), node("Flatten", ["m"], ["f"]), node("MatMul", ["f", "w"], ["y"])]
    return built(nodes, weights={"w": WEIGHT}, more={"acme": 1})


@model(refused="Sharpen")
def unknown_operator() -> onnx.ModelProto:
    return classifier(node("Sharpen", ["x"], ["m"]), opset=17)


@model(refused="opset 999")
def opset_of_the_future() -> onnx.ModelProto:
    return classifier(node("Relu", ["x"], ["m"]), opset=999)


@model(refused="'y' is sequence")
def gives_a_sequence() -> onnx.ModelProto:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    return built([node("SplitToSequence", ["x"], ["y"], axis=1)], [helper.make_value_info("y", kind)])


@model(refused="'x' is text")
def takes_text() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.STRING, ["N"])
    y = helper.make_tensor_value_info("y", TensorProto.STRING, ["N"])
    return built([node("Identity", ["x"], ["y"])], [y], [x])


@model(refused="bfloat16")
def takes_bfloat16() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    return built([node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], [y], [x])


def feed(name: str) -> np.ndarray:
    """Ten samples for a model."""
    kind = MODELS[name]().graph.input[0].type.tensor_type.elem_type
    if kind == TensorProto.INT64:
        return RNG.integers(0, 10, (10, 5))
    values = np.random.default_rng(3).normal(size=(10, 1, 4, 4))
    return values.astype(np.float16 if kind == TensorProto.FLOAT16 else np.float32)
