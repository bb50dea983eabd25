"""ONNX graphs: operators, shapes and precision by shape inference alone; weights beyond a few kilobytes are never copied.

Reference: ONNX operator specifications, https://onnx.ai/onnx/operators/ and, for com.microsoft, ONNX Runtime's ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import MissingPackageError, SourceError
from edgekit.inspection._onnx_graph import Graph, eight_bit, label
from edgekit.inspection.model import Inspection, LayerInfo, Quantization, TensorInfo, counted, elements, precisions, total_macs

if TYPE_CHECKING:
    import onnx

    from edgekit.inspection.model import Shape

_REMAKE = "export it again, or fetch it again"
_DATA_WEIGHT = {
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "LSTM": (0, 1),
    "GRU": (0, 1),
    "RNN": (0, 1),
    "Gather": (1, 0),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
    "com.microsoft.FusedConv": (0, 1),
    "com.microsoft.NhwcFusedConv": (0, 1),
    "com.microsoft.FusedMatMul": (0, 1),
    "com.microsoft.FusedGemm": (0, 1),
    "com.microsoft.Attention": (0, 1),
    "com.microsoft.QAttention": (0, 1),
    "com.microsoft.QGemm": (0, 3),
    "com.microsoft.DynamicQuantizeMatMul": (0, 1),
    "com.microsoft.MatMulIntegerToFloat": (0, 1),
    "com.microsoft.MatMulNBits": (0, 1),
}
"""Computing operators, with the places of data and weights among their inputs."""
_STATIC = {"QLinearConv", "QLinearMatMul", "com.microsoft.QGemm", "com.microsoft.QAttention"}
_DYNAMIC = {"ConvInteger", "MatMulInteger", "com.microsoft.DynamicQuantizeMatMul", "com.microsoft.MatMulIntegerToFloat"}
_LEAST_INPUTS = {
    **{operator: max(places) + 1 for operator, places in _DATA_WEIGHT.items()},
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "com.microsoft.DequantizeLinear"), 2),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "com.microsoft.QGemm"), 6),
    **dict.fromkeys(("Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"), 1),
}
_CONVOLUTIONS = {"Conv", "ConvInteger", "QLinearConv", "com.microsoft.FusedConv"}
_PLUMBING = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Constant", "Cast", "Shape", "Identity"}


def read(path: Path) -> Inspection:
    """Describe an ONNX model.

    Raises:
        SourceError: truncated, corrupt, or a graph that reads what nothing makes.
    """
    model = _load(path)
    files, notes = _files(model, path)
    graph = Graph(model)
    notes += graph.infer_shapes()
    layers = [_layer(node, graph) for node in model.graph.node if node.op_type != "Constant"]
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    return Inspection(
        path=str(path),
        format="onnx",
        size=sum(file.stat().st_size for file in files),
        files=tuple(file.relative_to(path.parent).as_posix() for file in files),
        parameters=graph.parameters(),
        macs=total_macs(layers),
        opset=opset,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(_end(value, graph) for value in model.graph.input if value.name not in graph.constants),
        outputs=tuple(_end(value, graph) for value in model.graph.output),
        operators=counted([operator for operator in graph.operators() if operator != "Constant"]),
        precisions=precisions(layers),
        quantization=_quantization(model, graph),
        layers=tuple(layers),
        notes=tuple(notes),
    )


def _load(path: Path) -> onnx.ModelProto:
    try:
        import onnx
        import onnx.inliner
        from google.protobuf.message import DecodeError
    except ImportError as problem:
        raise MissingPackageError(f"onnx does not import ({problem})", hint="pip install onnx") from problem
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, RuntimeError) as problem:
        raise SourceError(f"{path}: is truncated or no ONNX model ({str(problem).splitlines()[0]})", hint=_REMAKE) from problem
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}", hint="give a file that you may read") from problem
    if not model.graph.node or not model.opset_import:
        raise SourceError(f"{path}: is no ONNX model: it holds no graph", hint=_REMAKE)
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except (RuntimeError, ValueError) as problem:
            raise SourceError(f"{path}: its functions can't be inlined ({problem})", hint=_REMAKE) from problem
    broken = _broken(model.graph, set())
    if broken:
        raise SourceError(f"{path}: {broken}", hint=_REMAKE)
    return model


def _broken(graph: onnx.GraphProto, outer: set[str]) -> str:
    """Describe the first node that lacks inputs or reads what nothing makes; empty when the graph is whole."""
    if any(isinstance(text, bytes) for text in _texts(graph)):
        return "its names are no text"
    known = outer | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        if not node.output or len(node.input) < _LEAST_INPUTS.get(Graph.operator(node), 0):
            return f"node {label(node)!r} ({node.op_type}) lacks inputs or outputs"
        for name in node.input:
            if name and name not in known:
                return f"node {label(node)!r} ({node.op_type}) reads {name!r}, which nothing makes"
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                if broken := _broken(inner, known):
                    return broken
        known.update(node.output)
    return next((f"output {value.name!r} is made by nothing" for value in graph.output if value.name not in known), "")


def _texts(graph: onnx.GraphProto) -> Iterator[object]:
    """Every name; protobuf hands one that is not UTF-8 out as bytes."""
    for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield entry.name
    for tensor in graph.initializer:
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output, *(attribute.name for attribute in node.attribute))


def _files(model: onnx.ModelProto, path: Path) -> tuple[list[Path], list[str]]:
    """The model's file and those of its external data, which has to lie below the model's folder."""
    folder = path.parent.resolve()
    files, notes = [path], []
    outside = [tensor for tensor in model.graph.initializer if tensor.data_location == 1]
    names = {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}
    for name in sorted(names):
        file = (folder / name).resolve()
        if not file.is_relative_to(folder):
            raise SourceError(f"{path}: its weights lie outside its folder ({name})", hint="save it anew with its data beside it")
        if file.is_file():
            files.append(path.parent / name)
        else:
            notes.append(f"external data {name} is missing: the model can't run")
    return files, notes


def _layer(node: onnx.NodeProto, graph: Graph) -> LayerInfo:
    operator = graph.operator(node)
    shape = graph.shape(node.output[0])
    computes = operator in _DATA_WEIGHT and (operator != "Gather" or bool(graph.weights(node.input[0])))
    return LayerInfo(
        name=label(node),
        operator=operator,
        shape=shape,
        parameters=0 if operator in _PLUMBING else sum(graph.weights(name) for name in node.input if name not in graph.auxiliary),
        macs=_macs(node, operator, shape, graph) if computes else None,
        precision="" if operator in _PLUMBING else _precision(node, operator, graph) if computes else _passing(node, graph),
        computes=computes,
    )


def _macs(node: onnx.NodeProto, operator: str, shape: Shape | None, graph: Graph) -> int | None:
    data, weight = (graph.origin_shape(node.input[place]) for place in _DATA_WEIGHT[operator] if place < len(node.input))
    made, taken = elements(shape), elements(data)
    sizes = [n for n in weight or () if isinstance(n, int)]
    if operator in _CONVOLUTIONS:
        return made * math.prod(sizes[1:]) if made is not None and len(sizes) > 2 else None
    if operator == "ConvTranspose":
        return taken * math.prod(sizes[1:]) if taken is not None and len(sizes) > 2 else None
    if operator == "Gather":
        return 0
    if made is None or operator in ("LSTM", "GRU", "RNN", "com.microsoft.Attention", "com.microsoft.QAttention"):
        return None
    if operator == "com.microsoft.MatMulNBits":
        return made * int(graph.attribute(node, "K", 0))
    depth = (data or ())[0 if graph.attribute(node, "transA", 0) else -1 :][:1]
    return made * depth[0] if depth and isinstance(depth[0], int) else None


def _precision(node: onnx.NodeProto, operator: str, graph: Graph) -> str:
    data_place, weight_place = _DATA_WEIGHT[operator]
    if operator in _STATIC | _DYNAMIC:
        return eight_bit(graph.kind(node.input[weight_place]))
    if operator == "com.microsoft.MatMulNBits":
        return f"int{graph.attribute(node, 'bits', 4)} weights"
    data, weight = graph.stored(node.input[data_place]), graph.stored(node.input[weight_place])
    computed = graph.kind(node.output[0])
    if weight and data and operator != "Gather":
        return weight
    if weight and (graph.weights(node.input[weight_place]) or operator == "Gather"):
        return f"{weight} weights"
    return computed


def _passing(node: onnx.NodeProto, graph: Graph) -> str:
    """Precision of an operator without weights: int8 when it stands between DequantizeLinear and QuantizeLinear."""
    varying = [name for name in node.input if name and name not in graph.constants and not graph.weights(name)]
    between = [graph.stored(name) for name in varying]
    readers = graph.readers.get(node.output[0], [])
    if between and all(between) and readers and all(reader == "QuantizeLinear" for reader in readers):
        return between[0]
    return graph.kind(node.output[0])


def _quantization(model: onnx.ModelProto, graph: Graph) -> Quantization | None:
    operators = {graph.operator(node) for node in model.graph.node}
    found = graph.quantized()
    if found.activations or operators & _STATIC:
        kind = "static"
    elif operators & _DYNAMIC or "DynamicQuantizeLinear" in operators:
        kind = "dynamic"
    elif found.weights or "com.microsoft.MatMulNBits" in operators:
        kind = "weights"
    else:
        return None
    content: dict[str, Any] = {
        "kind": kind,
        "activations": tuple(sorted(found.activations)),
        "weights": tuple(sorted(found.weights)) or tuple(f"int{bits}" for bits in graph.packed_bits()),
        "symmetric": found.symmetric if found.activations else None,
        "per_channel": found.per_channel,
        "full_range": found.full_range,
    }
    return Quantization.model_validate(content)


def _end(value: onnx.ValueInfoProto, graph: Graph) -> TensorInfo:
    return TensorInfo(name=value.name, dtype=graph.numpy_word(value.name), shape=graph.shape(value.name))
