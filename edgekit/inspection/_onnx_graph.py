"""An ONNX graph with the questions an inspection asks of it: shapes, types, and which tensors are integers behind a DequantizeLinear."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

    from edgekit.inspection.model import Shape

KEEP_BYTES = 4096
"""Constants up to this size may be shapes that shape inference has to read."""
SEVEN_BITS = 64
"""Largest magnitude of a weight quantized with reduce_range."""

_KINDS = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16", 2: "uint8", 3: "int8", 21: "uint4", 22: "int4", 25: "uint2", 26: "int2"}
_WIDE = {4: "uint16", 5: "int16", 6: "int32", 7: "int64", 12: "uint32", 13: "uint64", 9: "bool", 8: "str"}
_NUMPY = {"fp32": "float32", "fp16": "float16", "fp64": "float64", "bf16": "bfloat16"}
_AUXILIARY = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "BatchNormalization": (3, 4),
    "Resize": (1, 2, 3),
    "com.microsoft.QGemm": (1, 2, 4, 5, 7, 8),
    "com.microsoft.QAttention": (3, 4, 6, 7),
    "com.microsoft.DynamicQuantizeMatMul": (2, 3),
    "com.microsoft.MatMulIntegerToFloat": (2, 3, 4, 5),
    "com.microsoft.MatMulNBits": (2, 3, 4),
}
"""Inputs that are scales, zero points, statistics or sizes, and so no weights."""
_BIAS = {"QLinearConv": 8, "com.microsoft.QGemm": 6}
"""Inputs that are quantized 32-bit biases."""
_PASSING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")


@dataclass
class Quantized:
    """Integer tensors of a graph."""

    activations: set[str] = field(default_factory=set)
    weights: set[str] = field(default_factory=set)
    symmetric: bool = True
    per_channel: bool = False
    full_range: bool | None = None


class Graph:
    """A model's main graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[str]] = defaultdict(list)
        self.auxiliary: set[str] = set()
        self._biases: set[str] = set()
        self._values: dict[str, onnx.ValueInfoProto] = {}
        for node in model.graph.node:
            operator = self.operator(node)
            self.makers.update(dict.fromkeys(node.output, node))
            for place, name in enumerate(node.input):
                self.readers[name].append(operator)
                if place in _AUXILIARY.get(operator, ()):
                    self.auxiliary.add(name)
                if place == _BIAS.get(operator) or (operator == "DequantizeLinear" and place == 0):
                    self._biases.add(name)
            if operator == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                self.constants[node.output[0]] = node.attribute[0].t
        self._dims = {name: tuple(tensor.dims) for name, tensor in self.constants.items()}
        self._quantized = self._find_quantized()

    def infer_shapes(self) -> list[str]:
        """Find the shapes of all tensors; return what went wrong, for the notes.

        Weights are emptied first: their sizes say enough, and inference would copy them.
        """
        import onnx

        for tensor in self.model.graph.initializer:
            if tensor.ByteSize() > KEEP_BYTES:
                for part in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                    tensor.ClearField(part)
        problems: list[str] = []
        try:
            inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as problem:
            inferred = self.model
            problems.append(f"shape inference gave up: {str(problem).strip().splitlines()[0][:160]}")
        for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
            self._values[value.name] = value
        return problems

    @staticmethod
    def operator(node: onnx.NodeProto) -> str:
        """Operator with its domain, where that is not ONNX's own."""
        return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"

    def operators(self) -> list[str]:
        """Every operator, those in branches and loop bodies included."""
        return list(_operators(self.model.graph))

    @staticmethod
    def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
        """An integer attribute."""
        return next((int(entry.i) for entry in node.attribute if entry.name == name), default)

    def shape(self, name: str) -> Shape | None:
        """Shape of a tensor, None where inference did not find it."""
        if name in self._dims:
            return self._dims[name]
        value = self._values.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        return tuple(_axis(dim) for dim in value.type.tensor_type.shape.dim)

    def origin_shape(self, name: str) -> Shape | None:
        """Shape of a tensor, or of the tensor behind its Q/DQ pair where inference did not find it."""
        while (found := self.shape(name)) is None and self._made_by(name) in ("DequantizeLinear", "QuantizeLinear"):
            name = self.makers[name].input[0]
        return found

    def kind(self, name: str) -> str:
        """Element type of a tensor in edgekit's words; '' where it is unknown."""
        if name in self.constants:
            number = self.constants[name].data_type
        elif name in self._values:
            number = self._values[name].type.tensor_type.elem_type
        else:
            return ""
        return _KINDS.get(number) or _WIDE.get(number, "")

    def numpy_word(self, name: str) -> str:
        """Element type of a tensor in NumPy's words."""
        kind = self.kind(name)
        return _NUMPY.get(kind, kind)

    def stored(self, name: str) -> str:
        """Integer (or smaller float) type of a tensor behind a DequantizeLinear or a Cast of a constant; '' for a plain float."""
        while self._made_by(name) in _PASSING:
            name = self.makers[name].input[0]
        operator = self._made_by(name)
        if operator.endswith("DequantizeLinear"):
            return eight_bit(self._integer(self.makers[name]))
        if operator == "Cast" and self.makers[name].input[0] in self.constants:
            return self.kind(self.makers[name].input[0])
        return ""

    def weights(self, name: str) -> int:
        """Number of weights in a constant, or in the constant behind a DequantizeLinear."""
        while name not in self.constants:
            if self._made_by(name) not in ("DequantizeLinear", "QuantizeLinear", "Cast", *_PASSING):
                return 0
            name = self.makers[name].input[0]
        number = self.constants[name].data_type
        counts = self._dims[name] and (number in _KINDS or (number == 6 and name in self._biases))
        return math.prod(self._dims[name]) if counts else 0

    def _made_by(self, name: str) -> str:
        return self.operator(self.makers[name]) if name in self.makers else ""

    def parameters(self) -> int:
        """Weights of the graph, each counted once."""
        packed = {node.input[1]: node for node in self.model.graph.node if self.operator(node) == "com.microsoft.MatMulNBits"}
        total = sum(self.attribute(node, "K", 0) * self.attribute(node, "N", 0) for node in packed.values())
        return total + sum(self.weights(name) for name in self.constants if name not in self.auxiliary and name not in packed)

    def packed_bits(self) -> set[int]:
        """Widths of block-wise packed weights."""
        return {self.attribute(n, "bits", 4) for n in self.model.graph.node if self.operator(n) == "com.microsoft.MatMulNBits"}

    def quantized(self) -> Quantized:
        """The integer tensors of the graph."""
        return self._quantized

    def _find_quantized(self) -> Quantized:
        found = Quantized()
        for node in self.model.graph.node:
            operator = self.operator(node)
            if operator.endswith("DequantizeLinear"):
                self._note_dequantized(node, found)
            elif operator in ("QLinearConv", "QLinearMatMul", "com.microsoft.QGemm"):
                found.activations.add(self.kind(node.input[2]))
                found.symmetric &= self._all_zero(node.input[2])
                self._note_weights(node.input[3], node.input[4], found)
            elif operator in ("ConvInteger", "MatMulInteger") and node.input[1] in self.constants:
                self._note_weights(node.input[1], node.input[3] if len(node.input) > 3 else "", found)
        return found

    def _note_dequantized(self, node: onnx.NodeProto, found: Quantized) -> None:
        kind = self._integer(node)
        if kind == "int32":
            return
        if self.weights(node.input[0]):
            self._note_weights(node.input[0], node.input[1], found, kind)
        else:
            found.activations.add(kind)
            found.symmetric &= len(node.input) < 3 or not node.input[2] or self._all_zero(node.input[2])

    def _note_weights(self, name: str, scale: str, found: Quantized, kind: str = "") -> None:
        found.weights.add(kind or self.kind(name))
        found.per_channel |= math.prod(self._dims.get(scale, ())) > 1
        values = self._values_of(name) if self.kind(name) == "int8" else None
        if values is not None and values.ndim > 1:
            beyond = bool((values > SEVEN_BITS).any() or (values < -SEVEN_BITS).any())
            found.full_range = bool(found.full_range) or beyond

    def _integer(self, node: onnx.NodeProto) -> str:
        """Integer type that a DequantizeLinear reads: its constant's, else its zero point's."""
        if node.input[0] in self.constants:
            return self.kind(node.input[0])
        return self.kind(node.input[2]) if len(node.input) > 2 and node.input[2] else "uint8"

    def _all_zero(self, name: str) -> bool:
        values = self._values_of(name)
        return values is not None and not values.any()

    def _values_of(self, name: str) -> Any:
        from onnx import numpy_helper

        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == 1:
            return None
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError):
            return None


def eight_bit(kind: str) -> str:
    """The family of a type: whether an 8-bit integer has a sign is the scheme's business, not the precision's."""
    return kind.removeprefix("u") if kind in ("uint8", "uint4", "uint2") else kind


def label(node: onnx.NodeProto) -> str:
    """Name of a node; its first output's where it has none."""
    return str(node.name or (node.output[0] if node.output else node.op_type))


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield Graph.operator(node)
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _operators(inner)


def _axis(dim: Any) -> int | str:
    return int(dim.dim_value) if dim.HasField("dim_value") else (str(dim.dim_param) or "?")
