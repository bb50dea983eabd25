"""Int8 products add up exactly where that is asked for, whatever the CPU's own kernels do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.machine import this_machine
from edgekit.runner import load

INPUTS = {"x": np.ones((4, 64), np.float32)}
SUM = 64.0
"""Of 64 products of one; before VNNI each pair of them, 255 * 127 * 2, is cut at 32,767."""


def extreme(folder: Path, kind: Any = np.uint8) -> Path:
    """A matrix product whose inputs and weights are all as large as 8 bits can say."""
    most = np.iinfo(kind).max
    numbers = {
        "scale": np.float32(1 / most),
        "zero": kind(0),
        "weights": np.full((64, 8), 127, np.int8),
        "weights_scale": np.float32(1 / 127),
        "weights_zero": np.int8(0),
        "result_scale": np.float32(SUM / most),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x8"]),
        helper.make_node("DequantizeLinear", ["x8", "scale", "zero"], ["x_"]),
        helper.make_node("DequantizeLinear", ["weights", "weights_scale", "weights_zero"], ["w_"]),
        helper.make_node("MatMul", ["x_", "w_"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "result_scale", "zero"], ["y8"]),
        helper.make_node("DequantizeLinear", ["y8", "result_scale", "zero"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [4, 64]), ("y", [4, 8]))]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "extreme", ports[:1], ports[1:], stored)
    file = folder / "extreme.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_products_add_up_exactly_if_asked(tmp_path: Path, runtime: str, kind: Any) -> None:
    model = load(extreme(tmp_path, kind), runtime, precision="unsaturated")
    np.testing.assert_allclose(model.run(INPUTS)["y"], SUM, rtol=1e-5)
    assert model.circumstances["precision"] == "unsaturated"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_otherwise_they_are_what_this_cpu_makes_of_them(tmp_path: Path, runtime: str) -> None:
    found = load(extreme(tmp_path), runtime).run(INPUTS)["y"]
    assert (found < 0.6 * SUM).all() == this_machine().saturates
    assert np.allclose(found, SUM, rtol=1e-5) != this_machine().saturates
