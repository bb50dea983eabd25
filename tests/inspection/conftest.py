"""Tiny models of every format, made with the formats' own libraries; nothing is trained, exported or downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def conv_gemm(path: Path, *, batch: int | str = "batch", opset: int = 20) -> Path:
    """x [batch, 3, 8, 8] -> Conv 3->4, 3x3 -> Relu -> GlobalAveragePool -> Flatten -> Gemm 4->5."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "conv.weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "conv.bias": np.zeros(4, np.float32),
        "fc.weight": rng.normal(size=(5, 4)).astype(np.float32),
        "fc.bias": np.zeros(5, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return path


@pytest.fixture
def float_onnx(tmp_path: Path) -> Path:
    return conv_gemm(tmp_path / "tiny.onnx")


class Samples:
    """Calibration samples in the form that ONNX Runtime's quantizer reads."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self._left = iter([{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(3)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


@pytest.fixture
def samples() -> type[Samples]:
    return Samples


@pytest.fixture
def quantized_onnx(float_onnx: Path):
    """A function that quantizes the tiny graph with ONNX Runtime's own quantizer."""
    import logging

    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    logging.disable(logging.WARNING)

    def make(*, activations: str = "uint8", symmetric: bool = False, reduce_range: bool = False, qdq: bool = True) -> Path:
        out = float_onnx.with_name(f"{activations}-{symmetric}-{reduce_range}-{qdq}.onnx")
        quantize_static(
            str(float_onnx),
            str(out),
            Samples(),
            quant_format=QuantFormat.QDQ if qdq else QuantFormat.QOperator,
            activation_type={"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}[activations],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=reduce_range,
            extra_options={"ActivationSymmetric": symmetric},
        )
        return out

    yield make
    logging.disable(logging.NOTSET)


class TfliteMaker:
    """Writes TFLite files through the object API of the schema that ai-edge-litert ships."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._path = path
        self.schema = schema
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "tiny"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, name, shape, kind="FLOAT32", *, data=None, scales=None, zero_points=None):
        made = self.schema.TensorT()
        made.name, made.shape, made.type = name.encode(), list(shape), getattr(self.schema.TensorType, kind)
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            made.buffer = len(self.model.buffers) - 1
        if scales is not None:
            made.quantization = self.schema.QuantizationParametersT()
            made.quantization.scale = list(scales)
            made.quantization.zeroPoint = list(zero_points if zero_points is not None else [0] * len(scales))
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def operator(self, name, inputs, outputs, *, custom=None):
        code = self.schema.OperatorCodeT()
        number = getattr(self.schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        code.customCode = custom.encode() if custom else None
        self.model.operatorCodes.append(code)
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(self.model.operatorCodes) - 1, list(inputs), list(outputs)
        self.graph.operators.append(made)

    def write(self, inputs, outputs):
        import flatbuffers

        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        self._path.write_bytes(bytes(builder.Output()))
        return self._path


@pytest.fixture
def tflite(tmp_path: Path) -> TfliteMaker:
    return TfliteMaker(tmp_path / "tiny.tflite")


@pytest.fixture
def openvino_model(tmp_path: Path):
    """A function that saves x [1, 3, 8, 8] -> Convolution 3->4, 3x3 -> ReduceMean -> MatMul 4->5 as IR."""
    import openvino as ov

    op = ov.opset13

    def quantize(node, low, high):
        bounds = [op.constant(np.float32(v)) for v in (low, high, low, high)]
        return op.fake_quantize(node, *bounds, levels=256)

    def make(*, kind: str = "float", fp16: bool = False, largest: int = 127) -> Path:
        rng = np.random.default_rng(0)
        x = op.parameter([1, 3, 8, 8], np.float32, name="x")

        def weight(shape):
            if kind == "float":
                return op.constant(rng.normal(size=shape).astype(np.float32))
            integers = rng.integers(-largest, largest + 1, size=shape).astype(np.int8)
            integers.flat[0] = largest
            scales = op.constant(np.full((shape[0], *(1,) * (len(shape) - 1)), 0.01, np.float32))
            return op.multiply(op.convert(op.constant(integers), "f32"), scales)

        data = quantize(x, -1, 1) if kind == "static" else x
        conv = op.convolution(data, weight((4, 3, 3, 3)), [1, 1], [0, 0], [0, 0], [1, 1])
        pooled = op.reduce_mean(op.relu(conv), op.constant(np.array([2, 3])), keep_dims=False)
        pooled = quantize(pooled, 0, 1) if kind == "static" else pooled
        result = op.matmul(pooled, weight((5, 4)), False, True)
        out = tmp_path / f"{kind}-{fp16}-{largest}.xml"
        ov.save_model(ov.Model([result], [x], "tiny"), out, compress_to_fp16=fp16)
        return out

    return make
