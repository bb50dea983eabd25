"""TFLite flatbuffers as edgekit reads and writes them: layers by name, inputs and outputs by signature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.core.artifacts import Artifact, TensorSpec
from edgekit.runner.runtimes._buckets import LENGTH_KEY, SYMBOL

FILE = "model.tflite"
WEIGHTS_AT = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "CONV_3D": 1,
    "FULLY_CONNECTED": 1,
    "BATCH_MATMUL": 1,
    "EMBEDDING_LOOKUP": 1,
}
"""Operators that carry a layer's weights, with the place of the weights among their inputs."""


@dataclass(frozen=True)
class Layer:
    """One operator of the main graph.

    Attributes:
        name: name of its first output.
        operator: its name in the schema (``CONV_2D``).
        weighted: whether it computes with weights that the file stores.
        node: the flatbuffer object.
    """

    name: str
    operator: str
    weighted: bool
    node: Any


def read(path: Path) -> Any:
    """Read a flatbuffer as a mutable object tree; buffers are views on the file's bytes."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))


def to_bytes(model: Any) -> bytes:
    """Return an object tree as a flatbuffer with all buffers inside."""
    import numpy as np
    from ai_edge_litert.tools import flatbuffer_utils

    for buffer in model.buffers:
        if buffer.data is not None and not isinstance(buffer.data, np.ndarray):
            buffer.data = np.frombuffer(buffer.data, np.uint8)  # anything else is written byte by byte
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def write(model: Any, path: Path) -> None:
    """Write an object tree as a flatbuffer file."""
    path.write_bytes(to_bytes(model))


def layers(model: Any) -> list[Layer]:
    """Return the operators of the main graph in execution order."""
    graph = model.subgraphs[0]
    found = []
    for node in graph.operators:
        operator = operator_name(model, node)
        name = graph.tensors[node.outputs[0]].name.decode() if len(node.outputs) else operator
        place = WEIGHTS_AT.get(operator)
        weighted = place is not None and constant(model, node.inputs[place]) is not None
        found.append(Layer(name, operator, weighted, node))
    return found


def operator_name(model: Any, node: Any) -> str:
    """Return an operator's name in the schema, such as ``CONV_2D``."""
    return code_name(model.operatorCodes[node.opcodeIndex])


def code_name(code: Any) -> str:
    """Return the name that an operator code stands for; codes beyond 127 stand in a field of their own."""
    return _operators()[max(code.builtinCode, code.deprecatedBuiltinCode)]


def constant(model: Any, index: int) -> Any:
    """Return the raw bytes of a tensor that the file stores (uint8 [N]), or None for one that is computed."""
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data if index >= 0 else None
    return None if data is None or len(data) == 0 else data


def specs(model: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Describe inputs and outputs in the graph's order, under the names of the signature.

    Where a model holds graphs of several lengths, the longest first, what differs between them is a symbolic axis.
    """
    inputs, outputs = _ends(model, 0)
    signatures = model.signatureDefs or []
    if len(signatures) < 2 or not all(LENGTH_KEY.fullmatch(s.signatureKey.decode()) for s in signatures):
        return inputs, outputs
    return tuple(  # type: ignore[return-value]
        tuple(_opened(large, small) for large, small in zip(*sides, strict=True))
        for sides in zip((inputs, outputs), _ends(model, len(model.subgraphs) - 1), strict=True)
    )


def _ends(model: Any, place: int) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    graph = model.subgraphs[place]
    signature = next((s for s in model.signatureDefs or [] if s.subgraphIndex == place), None)
    given = {item.tensorIndex: item.name.decode() for side in ("inputs", "outputs") for item in getattr(signature, side, None) or []}

    def described() -> Iterator[tuple[TensorSpec, ...]]:
        for side in (graph.inputs, graph.outputs):
            yield tuple(_spec(graph.tensors[i], given.get(i) or graph.tensors[i].name.decode()) for i in side)

    inputs, outputs = described()
    return inputs, outputs


def _opened(large: TensorSpec, small: TensorSpec) -> TensorSpec:
    return TensorSpec(large.name, large.dtype, tuple(SYMBOL if a != b else a for a, b in zip(large.shape, small.shape, strict=True)))


def describe(out: Path, precision: str, metadata: dict[str, Any]) -> Artifact:
    """Describe the model file in a folder as an artefact."""
    inputs, outputs = specs(read(out / FILE))
    return Artifact.describe(out, format="tflite", file=FILE, precision=precision, inputs=inputs, outputs=outputs, metadata=metadata)


def _spec(tensor: Any, name: str) -> TensorSpec:
    shape = [] if tensor.shape is None else list(tensor.shape)
    signature = shape if tensor.shapeSignature is None or not len(tensor.shapeSignature) else list(tensor.shapeSignature)
    axes = tuple(int(size) if size >= 0 else ("batch" if axis == 0 else f"axis{axis}") for axis, size in enumerate(signature))
    return TensorSpec(name, _dtypes()[tensor.type], axes)


@cache
def _operators() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


@cache
def _dtypes() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
