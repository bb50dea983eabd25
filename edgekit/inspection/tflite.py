"""TFLite files, read straight from the FlatBuffer.

Reference: the schema, https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs (fields go by number).
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import MissingPackageError, SourceError
from edgekit.inspection.flatbuffer import CorruptBufferError, Table, root
from edgekit.inspection.model import Inspection, LayerInfo, Quantization, TensorInfo, counted, elements, precisions, total_macs

if TYPE_CHECKING:
    from edgekit.inspection.model import Shape

IDENTIFIER = b"TFL3"
_WORDS = {"FLOAT64": "float64", "FLOAT32": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "BOOL": "bool", "STRING": "str"}
_FLOATS = {"FLOAT64": "fp64", "FLOAT32": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16"}
_SMALL = ("INT2", "INT4", "UINT4", "INT8", "UINT8", "INT16")
_COMPUTING = {
    "CONV_2D",
    "CONV_3D",
    "DEPTHWISE_CONV_2D",
    "TRANSPOSE_CONV",
    "FULLY_CONNECTED",
    "BATCH_MATMUL",
    "EMBEDDING_LOOKUP",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "LSTM",
    "SVDF",
}
_PLUMBING = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class _Tensor:
    name: str
    kind: str
    shape: Shape
    constant: bool
    scales: int
    zero_points: tuple[int, ...]

    @property
    def integer(self) -> bool:
        return self.kind in _SMALL and self.scales > 0

    @property
    def weights(self) -> int:
        """Weights in it: floats, small integers, and the quantized 32-bit integers of a bias; no shapes, no single numbers."""
        counts = self.constant and self.shape and (self.kind in _FLOATS or self.kind in _SMALL or self.scales)
        return math.prod(n for n in self.shape if isinstance(n, int)) if counts else 0


@dataclass
class _Graph:
    tensors: list[_Tensor]
    stored: dict[int, _Tensor] = field(default_factory=dict)
    """Constants behind a DEQUANTIZE, by the tensor that it makes: weights stored smaller than they are computed with."""
    kinds: set[str] = field(default_factory=set)
    activations: list[_Tensor] = field(default_factory=list)
    weights: list[_Tensor] = field(default_factory=list)


def read(path: Path) -> Inspection:
    """Describe a TFLite model.

    Raises:
        SourceError: truncated or corrupt.
        MissingPackageError: the names of the operators need ``ai-edge-litert``.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] != IDENTIFIER:
                raise CorruptBufferError("no TFL3 at byte 4")
            return _describe(path, root(data))
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}", hint="give a file that you may read") from problem
    except (CorruptBufferError, IndexError) as problem:
        raise SourceError(f"{path}: is truncated or no TFLite model ({problem})", hint="make or fetch it again") from problem


def _describe(path: Path, model: Table) -> Inspection:
    names, kinds = _enums()
    codes = [_operator_name(code, names) for code in model.tables(1)]
    buffers = model.tables(4)
    subgraphs = model.tables(2)
    if not subgraphs or model.scalar(0, "I") != 3:
        raise CorruptBufferError("no graph of schema version 3")
    graph = _Graph([_tensor(entry, kinds, buffers) for entry in subgraphs[0].tables(0)])
    operations = subgraphs[0].tables(3)
    for operation in operations:
        inputs, outputs = operation.numbers(1, "i"), operation.numbers(2, "i")
        if codes[operation.scalar(0, "I")] == "DEQUANTIZE" and graph.tensors[inputs[0]].constant:
            graph.stored[outputs[0]] = graph.tensors[inputs[0]]
    layers = [_layer(operation, codes[operation.scalar(0, "I")], graph) for operation in operations]
    everywhere = [codes[operation.scalar(0, "I")] for subgraph in subgraphs for operation in subgraph.tables(3)]
    notes = [f"{len(subgraphs) - 1} more graphs inside; the layers are those of the first"] if len(subgraphs) > 1 else []
    if any(layer.operator == "FULLY_CONNECTED" for layer in layers) and graph.kinds == {"dynamic"} and _many_scales(graph.weights):
        notes.append("dynamic int8 with a scale per channel: tflite-runtime 2.14 computes it wrongly, LiteRT rightly")
    inputs, outputs = _ends(model, subgraphs[0], graph.tensors)
    return Inspection(
        path=str(path),
        format="tflite",
        size=path.stat().st_size,
        files=(path.name,),
        parameters=sum(tensor.weights for tensor in graph.tensors),
        macs=total_macs(layers),
        producer=model.string(3),
        inputs=inputs,
        outputs=outputs,
        operators=counted(everywhere),
        precisions=precisions(layers),
        quantization=_quantization(graph),
        layers=tuple(layers),
        notes=tuple(notes),
    )


def _enums() -> tuple[dict[int, str], dict[int, str]]:
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as problem:
        raise MissingPackageError(f"ai-edge-litert does not import ({problem})", hint="pip install ai-edge-litert") from problem
    named = [{v: k for k, v in vars(enum).items() if not k.startswith("_")} for enum in (schema.BuiltinOperator, schema.TensorType)]
    return named[0], named[1]


def _operator_name(code: Table, names: dict[int, str]) -> str:
    number = max(code.scalar(0, "b"), code.scalar(3, "i"))  # files of before 2021 fill in the old byte only
    name = names.get(number, f"BUILTIN_{number}")
    return f"custom:{code.string(1)}" if name == "CUSTOM" else name


def _tensor(entry: Table, kinds: dict[int, str], buffers: list[Table]) -> _Tensor:
    shape: Shape = entry.numbers(0, "i")
    signature = entry.numbers(7, "i")
    if len(signature) == len(shape):
        shape = tuple("?" if n < 0 else n for n in signature)
    buffer = buffers[entry.scalar(2, "I")]
    constant = buffer.vector(0, 1)[1] > 0 or buffer.scalar(2, "Q") > 0
    quantization = entry.table(4)
    scales = quantization.vector(2, 4)[1] if quantization else 0
    zero_points = quantization.numbers(3, "q") if quantization and not constant else ()
    number = entry.scalar(1, "b")
    return _Tensor(entry.string(3), kinds.get(number, f"TYPE_{number}"), shape, constant, scales, zero_points)


def _layer(operation: Table, operator: str, graph: _Graph) -> LayerInfo:
    inputs = [number for number in operation.numbers(1, "i") if number >= 0]
    outputs = operation.numbers(2, "i")
    made = graph.tensors[outputs[0]] if outputs else None
    taken = [graph.stored.get(number, graph.tensors[number]) for number in inputs]
    return LayerInfo(
        name=made.name if made else operator,
        operator=operator,
        shape=made.shape if made else None,
        parameters=0 if operator in _PLUMBING else sum(tensor.weights for tensor in taken),
        macs=_macs(operation, operator, taken, made),
        precision="" if operator in _PLUMBING else _precision(operator, taken, made, graph),
        computes=operator in _COMPUTING,
    )


def _macs(operation: Table, operator: str, taken: list[_Tensor], made: _Tensor | None) -> int | None:
    size = elements(made.shape) if made else None
    if size is None or operator not in _COMPUTING or len(taken) < 2:
        return None
    if operator == "EMBEDDING_LOOKUP":
        return 0
    weights = [n for n in taken[1].shape if isinstance(n, int)]
    if operator == "CONV_2D" and len(weights) == 4:
        return size * math.prod(weights[1:])
    if operator == "DEPTHWISE_CONV_2D" and len(weights) == 4:
        return size * weights[1] * weights[2]
    if operator == "FULLY_CONNECTED" and len(weights) == 2:
        return size * weights[1]
    if operator == "TRANSPOSE_CONV" and len(weights) == 4 and len(taken) > 2:
        from_size = elements(taken[2].shape)
        return None if from_size is None else from_size * math.prod(weights[:3])
    if operator == "BATCH_MATMUL" and len(taken[0].shape) > 1:
        options = operation.table(4)
        depth = taken[0].shape[-2 if options and options.scalar(0, "?") else -1]
        return size * depth if isinstance(depth, int) else None
    return None


def _precision(operator: str, taken: list[_Tensor], made: _Tensor | None, graph: _Graph) -> str:
    data = next((tensor for tensor in taken if not tensor.constant), made)
    weights = [tensor for tensor in taken if tensor.weights and tensor.kind not in ("INT32", "INT64")]
    if data is None:
        return ""
    if data.integer:
        graph.kinds.add("static")
        graph.activations.append(data)
        graph.weights += [tensor for tensor in weights if tensor.integer]
        return _family(data.kind)
    computed = _FLOATS.get(data.kind, "")
    small = max((tensor for tensor in weights if tensor.kind != data.kind), key=lambda tensor: tensor.weights, default=None)
    if small is None or operator not in _COMPUTING:
        return computed
    if not small.integer:
        return f"{_FLOATS.get(small.kind, small.kind.lower())} weights"
    graph.weights.append(small)
    stored = small in graph.stored.values()
    graph.kinds.add("weights" if stored else "dynamic")
    return f"{_family(small.kind)} weights" if stored else _family(small.kind)


def _family(kind: str) -> str:
    """``int8`` for both 8-bit types: whether they have a sign is the scheme's business, not the precision's."""
    return kind.lower().removeprefix("u")


def _quantization(graph: _Graph) -> Quantization | None:
    kind = next((kind for kind in ("static", "dynamic", "weights") if kind in graph.kinds), None)
    if kind is None:
        return None
    return Quantization.model_validate(
        {
            "kind": kind,
            "activations": tuple(sorted({tensor.kind.lower() for tensor in graph.activations})),
            "weights": tuple(sorted({tensor.kind.lower() for tensor in graph.weights})),
            "symmetric": all(not any(tensor.zero_points) for tensor in graph.activations) if graph.activations else None,
            "per_channel": _many_scales(graph.weights),
        }
    )


def _many_scales(tensors: list[_Tensor]) -> bool:
    return any(tensor.scales > 1 for tensor in tensors)


def _ends(model: Table, subgraph: Table, tensors: list[_Tensor]) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs, by the names of the signature where there is exactly one, for those are what runtimes use."""
    signatures = model.tables(7)
    ends = []
    for side in (0, 1):
        numbers = subgraph.numbers(1 + side, "i")
        said = {entry.scalar(1, "I"): entry.string(0) for entry in signatures[0].tables(side)} if len(signatures) == 1 else {}
        ends.append(tuple(_info(said.get(number, tensors[number].name), tensors[number]) for number in numbers))
    return ends[0], ends[1]


def _info(name: str, tensor: _Tensor) -> TensorInfo:
    return TensorInfo(name=name, dtype=_WORDS.get(tensor.kind, tensor.kind.lower()), shape=tensor.shape)
