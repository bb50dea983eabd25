"""What the 4-bit weights of a model file stand for, worked out from the format's own definition and not from the code that wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.algorithms.int4 import unpack
from edgekit.core import openvino_ir, tflite_model

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact

Weights = dict[str, np.ndarray]


def unpacked(model: Artifact) -> Weights:
    """Return what a file's 4-bit weights stand for, float32 [C, K] by layer."""
    return {"onnx": _of_onnx, "openvino": _of_openvino, "tflite": _of_tflite}[model.format](model)


def _of_onnx(model: Artifact) -> Weights:
    import onnx
    from onnx import helper, numpy_helper

    graph = onnx.load(model.model).graph
    values = {i.name: i for i in graph.initializer}
    found: Weights = {}
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            about = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            packed, scales = (numpy_helper.to_array(values[name]) for name in node.input[1:3])
            integers = unpack(packed, about["block_size"], signed=False).astype(np.float32)
            points = np.full(scales.shape, 8, np.float32)
            if len(node.input) > 3:
                points = unpack(numpy_helper.to_array(values[node.input[3]]), scales.shape[1], signed=False).astype(np.float32)
            found[node.name] = ((integers - points[:, :, None]) * scales[:, :, None]).reshape(about["N"], -1)[:, : about["K"]]
        elif node.op_type == "DequantizeLinear":
            integers, scales = (numpy_helper.to_array(values[name]).astype(np.float32) for name in node.input[:2])
            points = numpy_helper.to_array(values[node.input[2]]).astype(np.float32) if len(node.input) > 2 else np.zeros_like(scales)
            flat = integers.reshape(len(scales), -1)
            found[node.name.removesuffix("/widen")] = (flat - points[:, None]) * scales[:, None]
    return found


def _of_openvino(model: Artifact) -> Weights:
    import openvino

    graph = openvino_ir.read(model.model)
    found: Weights = {}
    for node in graph.get_ordered_ops():
        if node.get_type_name() in ("MatMul", "Convolution", "GroupConvolution"):
            source = node.input_value(1)
            part = openvino.Model([source.get_node()], [], "weights")
            compiled = openvino.Core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            kinds = {n.get_element_type().get_type_name() for n in part.get_ops() if n.get_type_name() == "Constant"}
            if kinds & {"i4", "u4"}:
                axes = 2 if node.get_type_name() == "GroupConvolution" else 1
                value = np.array(compiled([])[0])
                found[node.get_friendly_name()] = value.reshape(int(np.prod(value.shape[:axes])), -1)
    return found


def _of_tflite(model: Artifact) -> Weights:
    graph = tflite_model.read(model.model)
    tensors = graph.subgraphs[0].tensors
    found: Weights = {}
    for layer in tflite_model.layers(graph):
        if not layer.weighted or tensors[layer.node.inputs[1]].type != 17:
            continue
        tensor = tensors[layer.node.inputs[1]]
        shape = list(tensor.shape)
        packed = np.frombuffer(bytes(graph.buffers[tensor.buffer].data), np.uint8)
        integers = unpack(packed, int(np.prod(shape)), signed=True).astype(np.float32)
        details = tensor.quantization.details
        if details is None:
            weights = integers.reshape(shape[0], -1) * np.asarray(tensor.quantization.scale)[:, None].astype(np.float32)
        else:
            scales = np.frombuffer(bytes(graph.buffers[tensors[details.scales].buffer].data), np.float16).astype(np.float32)
            weights = (integers.reshape(-1, details.blockSize) * scales[:, None]).reshape(shape[0], -1)
        nhwc = weights.reshape(shape)
        found[layer.name] = np.moveaxis(nhwc, -1, 1).reshape(shape[0], -1) if len(shape) == 4 else weights
    return found
