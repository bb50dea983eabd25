"""OpenVINO IR, read from its XML; weights stay in the ``.bin`` but for the range of the 8-bit ones.

Reference: OpenVINO IR format and operation sets, https://docs.openvino.ai/2025/documentation/openvino-ir-format.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from edgekit.core.errors import SourceError
from edgekit.inspection.model import Inspection, LayerInfo, Quantization, TensorInfo, counted, elements, precisions, total_macs

if TYPE_CHECKING:
    from edgekit.inspection.model import Shape

_REMAKE = "convert it again, or fetch it again"
_WORDS = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "boolean": "bool"}
_FLOATS = {"f64": "fp64", "f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_SMALL = {"i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4", "nf4": "nf4", "u2": "int2"}
_CONVOLUTIONS = {"Convolution": 1, "GroupConvolution": 2}
"""Axes of the weights that come before those one output element sums over."""
_DECONVOLUTIONS = {"ConvolutionBackpropData": 1, "GroupConvolutionBackpropData": 2}
_COMPUTING = {*_CONVOLUTIONS, *_DECONVOLUTIONS, "MatMul", "Gather", "LSTMSequence", "GRUSequence", "LSTMCell", "GRUCell"}
_STORING = {"Convert", "Multiply", "Subtract", "Reshape", "Transpose", "FakeQuantize", "Squeeze", "Unsqueeze"}
"""Operations between a stored weight and the layer that uses it."""
_CARRYING = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Split", "VariadicSplit", "StridedSlice", "Slice", "Pad", "Concat"}
"""Operations that hand a quantized activation on as it is."""
_PLUMBING = {"Const", "Parameter", "Result", "FakeQuantize", "Convert", "ShapeOf"}
_SEVEN_BITS = 64


@dataclass
class _Node:
    key: str
    name: str
    operator: str
    data: dict[str, str]
    precision: str
    shape: Shape | None
    names: str
    version: str
    inputs: list[str] = field(default_factory=list)


class _Graph:
    def __init__(self, nodes: dict[str, _Node]) -> None:
        self.nodes = nodes
        self.auxiliary = {source for node in nodes.values() if node.operator == "FakeQuantize" for source in node.inputs[1:]}
        self.weights: list[_Node] = []
        self.per_channel = False
        self.note_scales()

    def stored(self, key: str) -> _Node | None:
        """The constant behind a weight, past the operations that unpack it; None where something else is."""
        node = self.nodes[key]
        while node.operator in _STORING and node.inputs:
            node = self.nodes[node.inputs[0]]
        return node if node.operator == "Const" else None

    def note_scales(self) -> None:
        """Find the scales and zero points of integer weights, which are no weights themselves."""
        for node in self.nodes.values():
            if node.operator in ("Multiply", "Subtract") and node.inputs:
                unpacked = self.stored(node.inputs[0])
                for aside in map(self.stored, node.inputs[1:]):
                    if unpacked is not None and aside is not None and unpacked.precision in _SMALL:
                        self.auxiliary.add(aside.key)
                        self.per_channel |= (elements(aside.shape) or 0) > 1

    def quantized(self, key: str) -> bool:
        """Whether an activation comes from a FakeQuantize of at most 256 levels."""
        node = self.nodes[key]
        while node.operator in _CARRYING and node.inputs:
            node = self.nodes[node.inputs[0]]
        return node.operator == "FakeQuantize" and 0 < _number(node.data.get("levels", "")) <= 256


def read(path: Path) -> Inspection:
    """Describe an OpenVINO IR.

    Raises:
        SourceError: truncated, corrupt, no IR, or weights that its ``.bin`` does not have.
    """
    tree = _parse(path)
    nodes = _nodes(path, tree)
    graph = _Graph(nodes)
    layers = [_layer(node, graph) for node in nodes.values() if node.operator not in ("Const", "Parameter", "Result")]
    weights = path.with_suffix(".bin")
    constants = [node for node in nodes.values() if node.operator == "Const"]
    notes = _check_weights(path, weights, constants)
    files = [path, weights] if weights.is_file() else [path]
    runtime = tree.find("./rt_info/Runtime_version")
    return Inspection(
        path=str(path),
        format="openvino",
        size=sum(file.stat().st_size for file in files),
        files=tuple(file.name for file in files),
        parameters=sum(_weights(node) for node in constants if node.key not in graph.auxiliary),
        macs=total_macs(layers),
        opset=max((_number(n.version.removeprefix("opset")) for n in nodes.values() if n.version.startswith("opset")), default=None),
        producer="" if runtime is None else f"openvino {runtime.get('value', '')}".strip(),
        inputs=tuple(_end(node) for node in nodes.values() if node.operator == "Parameter"),
        outputs=tuple(_output(node, nodes) for node in nodes.values() if node.operator == "Result"),
        operators=counted([node.operator for node in nodes.values() if node.operator not in ("Const", "Parameter", "Result")]),
        precisions=precisions(layers),
        quantization=_quantization(layers, graph, weights),
        layers=tuple(layers),
        notes=tuple(notes),
    )


def _parse(path: Path) -> ElementTree.Element:
    try:
        text = path.read_bytes()
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise SourceError(f"{path}: declares XML entities, which no OpenVINO model does", hint=_REMAKE)
        tree = ElementTree.fromstring(text)  # noqa: S314 - declarations are refused above
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}", hint="give a file that you may read") from problem
    except ElementTree.ParseError as problem:
        raise SourceError(f"{path}: is truncated or no XML ({problem})", hint=_REMAKE) from problem
    if tree.tag != "net" or tree.find("layers") is None or _number(tree.get("version", "")) < 10:
        raise SourceError(f"{path}: is no OpenVINO model of IR version 10 or later", hint=_REMAKE)
    return tree


def _nodes(path: Path, tree: ElementTree.Element) -> dict[str, _Node]:
    try:
        nodes = {node.key: node for node in map(_node, tree.iterfind("./layers/layer"))}
        edges = sorted(tree.iterfind("./edges/edge"), key=lambda edge: (edge.attrib["to-layer"], _number(edge.attrib["to-port"])))
        for edge in edges:
            if nodes[edge.attrib["to-layer"]] is not nodes[edge.attrib["from-layer"]]:
                nodes[edge.attrib["to-layer"]].inputs.append(edge.attrib["from-layer"])
    except (KeyError, ValueError) as problem:
        raise SourceError(f"{path}: its layers or edges are damaged ({problem})", hint=_REMAKE) from problem
    if not nodes or _cyclic(nodes):
        raise SourceError(f"{path}: its layers form no graph", hint=_REMAKE)
    return nodes


def _node(layer: ElementTree.Element) -> _Node:
    found = layer.find("data")
    data = {} if found is None else dict(found.attrib)
    port = layer.find("./output/port")
    precision, shape, names = data.get("element_type", ""), None, ""
    if port is not None:
        precision = data.get("element_type") or _short(port.get("precision", ""))
        shape = tuple("?" if _number(dim.text or "") < 0 else _number(dim.text or "") for dim in port.iterfind("dim"))
        names = port.get("names", "")
    return _Node(layer.attrib["id"], layer.attrib["name"], layer.attrib["type"], data, precision, shape, names, layer.get("version", ""))


def _cyclic(nodes: dict[str, _Node]) -> bool:
    """Whether the edges form a circle, which would never end (Kahn's algorithm)."""
    waiting = {key: len(node.inputs) for key, node in nodes.items()}
    readers: dict[str, list[str]] = {}
    for key, node in nodes.items():
        for source in node.inputs:
            readers.setdefault(source, []).append(key)
    ready = [key for key, count in waiting.items() if not count]
    done = 0
    while ready:
        done += 1
        for reader in readers.get(ready.pop(), []):
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    return done < len(nodes)


def _layer(node: _Node, graph: _Graph) -> LayerInfo:
    constants = [found for found in map(graph.stored, node.inputs) if found is not None]
    weight = max(constants, key=_weights, default=None) if node.operator in _COMPUTING else None
    computes = node.operator in _COMPUTING and (node.operator != "Gather" or (weight is not None and _weights(weight) > 0))
    unpacking = node.operator in _STORING and graph.stored(node.key) is not None
    own = [] if unpacking else [found for found in constants if found.key not in graph.auxiliary]
    if weight is not None and weight.precision in _SMALL:
        graph.weights.append(weight)
    return LayerInfo(
        name=node.name,
        operator=node.operator,
        shape=node.shape,
        parameters=sum(map(_weights, own)),
        macs=_macs(node, weight, graph) if computes else None,
        precision="" if unpacking else _precision(node, weight, computes, graph),
        computes=computes,
    )


def _macs(node: _Node, weight: _Node | None, graph: _Graph) -> int | None:
    made = elements(node.shape)
    if node.operator == "Gather":
        return 0
    if node.operator in _CONVOLUTIONS and weight is not None and made is not None:
        return made * math.prod(n for n in (weight.shape or ())[_CONVOLUTIONS[node.operator] :] if isinstance(n, int))
    if node.operator in _DECONVOLUTIONS and weight is not None:
        taken = elements(graph.nodes[node.inputs[0]].shape)
        summed = [n for n in (weight.shape or ())[_DECONVOLUTIONS[node.operator] :] if isinstance(n, int)]
        return None if taken is None else taken * math.prod(summed)
    if node.operator == "MatMul" and made is not None and node.inputs:
        shape = graph.nodes[node.inputs[0]].shape or ()
        depth = shape[-2 if node.data.get("transpose_a") == "true" else -1 :][:1]
        return made * depth[0] if depth and isinstance(depth[0], int) else None
    return None


def _precision(node: _Node, weight: _Node | None, computes: bool, graph: _Graph) -> str:
    if node.operator in _PLUMBING:
        return ""
    computed = _FLOATS.get(node.precision, _SMALL.get(node.precision, node.precision))
    varying = [source for source in node.inputs if graph.stored(source) is None]
    if not computes:
        return computed
    small = weight is not None and weight.precision in _SMALL
    fake = any(graph.nodes[source].operator == "FakeQuantize" for source in node.inputs if graph.stored(source) is not None)
    if varying and all(map(graph.quantized, varying)) and (small or fake or weight is None or not _weights(weight)):
        return "int8"
    if small and weight is not None:
        return f"{_SMALL[weight.precision]} weights"
    if weight is not None and weight.precision != node.precision and weight.precision in _FLOATS:
        return f"{_FLOATS[weight.precision]} weights"
    return computed


def _quantization(layers: list[LayerInfo], graph: _Graph, file: Path) -> Quantization | None:
    static = any(layer.precision == "int8" and layer.computes for layer in layers)
    if not static and not graph.weights:
        return None
    return Quantization(
        kind="static" if static else "weights",
        weights=tuple(sorted({_SMALL[node.precision] if node.precision != "u8" else "uint8" for node in graph.weights})),
        per_channel=graph.per_channel,
        full_range=_full_range(graph.weights, file),
    )


def _full_range(weights: list[_Node], file: Path) -> bool | None:
    """Whether any signed 8-bit weight lies beyond 7 bits."""
    import numpy as np

    signed = [node for node in weights if node.precision == "i8"]
    if not signed or not file.is_file() or not file.stat().st_size:
        return None
    stored = np.memmap(file, dtype=np.int8, mode="r")
    parts = [stored[_number(n.data["offset"]) : _number(n.data["offset"]) + _number(n.data["size"])] for n in signed]
    return any(part.size and (int(part.max()) > _SEVEN_BITS or int(part.min()) < -_SEVEN_BITS) for part in parts)


def _check_weights(path: Path, file: Path, constants: list[_Node]) -> list[str]:
    if not file.is_file():
        return [f"{file.name} with the weights is missing: the model can't run"] if constants else []
    size = file.stat().st_size
    for node in constants:
        begin, count = _number(node.data.get("offset", "")), _number(node.data.get("size", ""))
        if begin < 0 or count < 0 or begin + count > size:
            raise SourceError(f"{file}: is truncated; {node.name!r} of {path.name} ends at byte {begin + count} of {size}", hint=_REMAKE)
    return []


def _weights(node: _Node) -> int:
    counts = node.shape and (node.precision in _FLOATS or node.precision in _SMALL)
    return (elements(node.shape) or 0) if counts else 0


def _end(node: _Node) -> TensorInfo:
    dtype = _WORDS.get(node.precision) or _short(node.precision)
    return TensorInfo(name=node.names.split(",")[0] or node.name, dtype=dtype, shape=node.shape)


def _output(node: _Node, nodes: dict[str, _Node]) -> TensorInfo:
    return _end(nodes[node.inputs[0]] if node.inputs else node)


def _short(precision: str) -> str:
    """``FP32`` and ``I64`` of a port in the words of an element type: ``f32``, ``int64``."""
    word = precision.lower().replace("fp", "f")
    if word[:1] in ("i", "u") and word[1:].isdigit() and word not in _SMALL:
        return f"{'u' if word[0] == 'u' else ''}int{word[1:]}"
    return word


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1
