"""OpenVINO models as edgekit keeps them: layers named after modules, files without bloat, the same bytes for the same model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.core.artifacts import Artifact, TensorSpec
from edgekit.core.chatter import innermost

FILE = "model.xml"
WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul", "Gather")
"""Operators that carry a layer's weights, if one of their inputs is constant."""
_MOVING = {
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "StridedSlice",
    "Concat",
    "Split",
    "VariadicSplit",
    "Broadcast",
    "Pad",
    "Tile",
}
_LOOKING_UP = {"Gather", "GatherND", "GatherElements", "ShapeOf", "Range", "Constant", "Parameter", "Result", "ReadValue", "Assign"}
_MELTING = {"Convert", "ConvertLike", "FakeQuantize", "Relu", "ReLU", "PRelu", "Clamp", "Identity"}
_LAYER = "edgekit_layer"


def read(path: Path) -> Any:
    """Read an IR, ONNX or TFLite file as an ``openvino.Model``."""
    import openvino

    return openvino.Core().read_model(str(path))


def complaint(problem: BaseException) -> str:
    """What a frontend says of a model that it can't read, in one line: the operators that it does not know, if that is it."""
    lines = [line.strip() for line in str(problem).splitlines()]
    unknown = [line for line in lines if "No conversion rule found for operations" in line or "Unsupported operation" in line]
    return unknown[0].removeprefix("-- ")[:240] if unknown else innermost(problem)


def specs(ports: Sequence[Any]) -> tuple[TensorSpec, ...]:
    """Describe a model's inputs or outputs; a dynamic axis is ``batch`` in front, else ``axisN``."""
    import numpy as np

    found = []
    for index, port in enumerate(ports):
        axes = [("batch" if i == 0 else f"axis{i}") if d.is_dynamic else d.get_length() for i, d in enumerate(port.get_partial_shape())]
        name = port.get_any_name() if port.get_names() else f"output_{index}"
        found.append(TensorSpec(name, np.dtype(port.get_element_type().to_dtype()).name, tuple(axes)))
    return tuple(found)


def optimized(model: Any) -> Any:
    """Apply OpenVINO's conversion-time optimizations (batch norm folded into convolutions) and name each layer after its module.

    The folding renames what it touches with process-wide counters, so names are kept beside the nodes meanwhile.
    """
    from openvino._offline_transformations import apply_moc_transformations, compress_quantize_weights_transformation

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant":
            node.get_rt_info()[_LAYER] = node.get_friendly_name()
    apply_moc_transformations(model, cf=False, smart_reshape=True)
    compress_quantize_weights_transformation(model)
    name_layers(model)
    return model


def name_layers(model: Any) -> None:
    """Name nodes after the modules they come from: ``layer1.0.conv1``, or ``layer1.0/Add`` for what has no weights."""
    seen: Counter[str] = Counter()
    ends = {node.get_friendly_name() for node in (*model.get_parameters(), *model.get_results())}
    visible = [port.get_tensor().get_names() for port in (*model.inputs, *model.outputs)]
    model.set_friendly_name("model")
    for index, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        info = node.get_rt_info()
        origin = str(info[_LAYER].value) if _LAYER in info else node.get_friendly_name()
        if _LAYER in info:
            del info[_LAYER]
        for port in node.outputs():
            if port.get_names() not in visible:
                port.get_tensor().set_names(set())
        if node.get_friendly_name() in ends:
            continue
        if kind == "Constant":
            node.set_friendly_name(f"c{index}")
            continue
        name = _layer_name(origin, kind, weighted=is_weighted(node))
        seen[name] += 1
        node.set_friendly_name(name if seen[name] == 1 else f"{name}_{seen[name]}")


def layers(model: Any) -> list[Any]:
    """Return the nodes that compute something, in topological order; moving data and activations that melt into a layer are left out."""
    return [node for node in model.get_ordered_ops() if is_weighted(node) or node.get_type_name() not in _MOVING | _LOOKING_UP | _MELTING]


def is_weighted(node: Any) -> bool:
    """Whether a node computes with float weights that the file stores."""
    kind = node.get_type_name()
    if kind not in WEIGHTED:
        return False
    values = [node.input_value(0)] if kind == "Gather" else node.input_values()
    return any(_is_constant(v.get_node()) and v.get_element_type().is_real() and len(v.get_partial_shape()) > 1 for v in values)


def tidy(model: Any, names: set[str]) -> None:
    """Make what a quantizer added small and the same in every process: short names, one constant where two are equal.

    Args:
        model: a quantized ``openvino.Model``.
        names: names to keep, those of the float model.
    """
    for node in model.get_ops():
        if node.get_type_name() == "FakeQuantize":
            for low_high in (1, 2):
                _share(node, low_high, low_high + 2)
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_type_name() == "Constant" or node.get_friendly_name() not in names:
            node.set_friendly_name(f"{node.get_type_name()[0].lower()}{index}")
    visible = [port.get_names() for port in (*model.inputs, *model.outputs)]
    for node in model.get_ops():
        for port in node.outputs():
            if port.get_names() not in visible:
                port.get_tensor().set_names(set())


def save(model: Any, out: Path) -> None:
    """Write ``model.xml`` and ``model.bin``.

    Args:
        model: an ``openvino.Model``; its inputs and outputs bear their final names.
        out: folder to write into.
    """
    import openvino

    file = out / FILE
    openvino.save_model(model, str(file), compress_to_fp16=False)
    plain = file.read_text(encoding="utf-8")
    file.write_text(compact(plain), encoding="utf-8")
    if _shapes(read(file)) != _shapes(model):
        file.write_text(plain, encoding="utf-8")


def compact(xml: str) -> str:
    """Leave out of an IR what the reader works out by itself: indentation, and the sizes that shape inference finds."""
    return re.sub(r"<dim>-?\d+</dim>", "", re.sub(r">\s+<", "><", xml)).replace("></port>", "/>")


def describe(out: Path, model: Any, precision: str, metadata: dict[str, Any]) -> Artifact:
    """Describe a saved model as an artefact."""
    sides = specs(model.inputs), specs(model.outputs)
    return Artifact.describe(out, format="openvino", file=FILE, precision=precision, inputs=sides[0], outputs=sides[1], metadata=metadata)


def _layer_name(origin: str, kind: str, *, weighted: bool) -> str:
    if not origin.startswith("__module"):
        return kind if re.fullmatch(rf"{kind}_\d+", origin) else origin
    module = origin.split("/")[0].removeprefix("__module").removeprefix(".inner").removeprefix(".")
    return module if weighted and module else f"{module}/{kind}".removeprefix("/")


def _share(node: Any, first: int, second: int) -> None:
    """Let an input read the constant of another if both hold the same."""
    one, other = node.input_value(first).get_node(), node.input_value(second).get_node()
    if one is not other and one.get_data().tobytes() == other.get_data().tobytes() and one.get_output_shape(0) == other.get_output_shape(0):
        node.input(second).replace_source_output(one.output(0))


def _is_constant(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Reshape", "Transpose", "FakeQuantize", "Multiply", "Subtract"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _shapes(model: Any) -> list[str]:
    return sorted(f"{node.get_type_name()} {out.get_partial_shape()}" for node in model.get_ops() for out in node.outputs())
