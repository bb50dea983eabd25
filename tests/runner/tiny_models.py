"""One tiny model in every format, and what it computes in NumPy.

``logits = flatten(image) @ weight + bias + table[index]``, ``probabilities = softmax(logits)``; the batch is open.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(16, 3)).astype(np.float32)
BIAS = RNG.normal(size=3).astype(np.float32)
TABLE = RNG.normal(size=(5, 3)).astype(np.float32)


def batch(size: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"image": rng.normal(size=(size, 1, 4, 4)).astype(np.float32), "index": rng.integers(0, 5, size)}


def reference(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    logits = inputs["image"].reshape(-1, 16) @ WEIGHT + BIAS + TABLE[inputs["index"]]
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return {"logits": logits, "probabilities": powers / powers.sum(1, keepdims=True)}


def write_onnx(path: Path, *, external: bool = False) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 4, 4])
    index = helper.make_tensor_value_info("index", TensorProto.INT64, ["batch"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("logits", "probabilities")]
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["score"]),
        helper.make_node("Gather", ["table", "index"], ["offset"]),
        helper.make_node("Add", ["score", "offset"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    weights = [numpy_helper.from_array(a, n) for n, a in (("weight", WEIGHT), ("bias", BIAS), ("table", TABLE))]
    graph = helper.make_graph(nodes, "tiny", [image, index], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path, save_as_external_data=external, location=f"{path.name}.data", size_threshold=0)
    return path


def write_openvino(path: Path) -> Path:
    import openvino

    openvino.save_model(openvino.convert_model(write_onnx(path.with_suffix(".onnx"))), path, compress_to_fp16=False)
    return path


def write_torch(path: Path) -> Path:
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(16, 3)
            self.table = torch.nn.Embedding(5, 3)

        def forward(self, image: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.linear(image.flatten(1)) + self.table(index)
            return logits, logits.softmax(1)

    module = Tiny().eval()
    module.load_state_dict(
        {"linear.weight": torch.tensor(WEIGHT.T.copy()), "linear.bias": torch.tensor(BIAS), "table.weight": torch.tensor(TABLE)}
    )
    open_batch = {0: torch.export.Dim("batch", min=1)}
    example = batch(2)
    tensors = tuple(torch.tensor(example[name]) for name in ("image", "index"))
    names = {
        "inputs": {"image": ["batch", 1, 4, 4], "index": ["batch"]},
        "outputs": {"logits": ["batch", 3], "probabilities": ["batch", 3]},
    }
    program = torch.export.export(module, tensors, dynamic_shapes=(open_batch, open_batch))
    torch.export.save(program, path, extra_files={"edgekit.json": json.dumps(names)})
    return path


def write_tflite(path: Path, *, signature: bool = True) -> Path:
    """Write a flatbuffer by hand: FULLY_CONNECTED, GATHER, ADD and SOFTMAX in their first versions, which every interpreter knows."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]

    def tensor(name: str, shape: list[int], kind: int = schema.TensorType.FLOAT32, value: np.ndarray | None = None) -> schema.TensorT:
        made = schema.TensorT()
        made.name, made.type = name.encode(), kind
        made.shape = np.array([1 if size < 0 else size for size in shape], np.int32)
        if -1 in shape:
            made.shapeSignature = np.array(shape, np.int32)
        if value is not None:
            made.buffer = len(model.buffers)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
            model.buffers.append(buffer)
        return made

    prefix, suffix = ("", "") if signature else ("serving_default_", ":0")
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor(f"{prefix}image{suffix}", [-1, 1, 4, 4]),
        tensor(f"{prefix}index{suffix}", [-1], schema.TensorType.INT32),
        tensor("weight", [3, 16], value=WEIGHT.T.copy()),
        tensor("bias", [3], value=BIAS),
        tensor("table", [5, 3], value=TABLE),
        tensor("score", [-1, 3]),
        tensor("offset", [-1, 3]),
        tensor(f"logits{suffix}", [-1, 3]),
        tensor(f"probabilities{suffix}", [-1, 3]),
    ]
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    operators = [
        ("FULLY_CONNECTED", "FullyConnectedOptions", schema.FullyConnectedOptionsT(), [0, 2, 3], [5]),
        ("GATHER", "GatherOptions", schema.GatherOptionsT(), [4, 1], [6]),
        ("ADD", "AddOptions", schema.AddOptionsT(), [5, 6], [7]),
        ("SOFTMAX", "SoftmaxOptions", softmax, [7], [8]),
    ]
    model.operatorCodes, graph.operators = [], []
    for name, kind, options, inputs, outputs in operators:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 1
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = options
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    graph.inputs, graph.outputs = np.array([0, 1], np.int32), np.array([7, 8], np.int32)
    model.subgraphs = [graph]
    if signature:
        model.signatureDefs = [_signature(schema)]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _signature(schema):
    def entry(name: str, index: int):
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name.encode(), index
        return made

    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = b"serving_default", 0
    made.inputs = [entry("image", 0), entry("index", 1)]
    made.outputs = [entry("logits", 7), entry("probabilities", 8)]
    return made


WRITERS = {
    "pytorch": ("tiny.pt2", write_torch),
    "onnxruntime": ("tiny.onnx", write_onnx),
    "openvino": ("tiny.xml", write_openvino),
    "litert": ("tiny.tflite", write_tflite),
    "tflite_runtime": ("legacy.tflite", write_tflite),
}


def write_all(folder: Path) -> dict[str, Path]:
    return {runtime: write(folder / name) for runtime, (name, write) in WRITERS.items()}
