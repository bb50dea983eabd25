"""Brings ONNX graphs that others wrote up to date, so that quantizers written for today's graphs fit them.

What is done: weights are no inputs (before IR version 4 they had to be), the operator set has per-channel quantization (opset 13), and what
can be computed beforehand is. The result is compared with the file as it came, like every export.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.chatter import innermost, muted
from edgekit.core.errors import ExportError

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 13
"""First opset whose QuantizeLinear has an axis."""
OPSET_OF_RESIZE = 11
"""First opset whose Resize samples at the middle of pixels unless told otherwise."""
_LEFT_ALONE = (
    "QuantizeLinear",
    "DequantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
)
"""Operators of graphs that are quantized already: folding would undo them."""


def modernized(model: onnx.ModelProto, newest: int | None) -> tuple[onnx.ModelProto, list[str]]:
    """Return an equal graph that quantizers know how to read, and what was changed.

    Args:
        model: the graph with its weights.
        newest: newest opset that may come out; None for the graph's own.

    Raises:
        ExportError: the operator set can't be converted; says why.
    """
    changes: list[str] = []
    if model.functions:
        import onnx.inliner

        model = onnx.inliner.inline_local_functions(model)
    before = opset_of(model)
    wanted = max(OLDEST_OPSET, min(before, newest or before))
    if wanted != before:
        model = _converted(model, before, wanted)
        changes.append(f"opset {before} -> {wanted}")
    if _weights_among_inputs_removed(model):
        changes.append("weights are no inputs any more")
    if not any(node.op_type in _LEFT_ALONE for node in model.graph.node) and not _half(model):
        folded = _folded(model)
        before, after = len(model.graph.node), len(folded.graph.node)
        if after < before:
            model = folded
            changes.append(f"{before} -> {after} nodes by folding constants")
    return model, changes


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operator set; 1 where a model names none, as the specification has it."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _converted(model: onnx.ModelProto, before: int, wanted: int) -> onnx.ModelProto:
    import onnx
    from onnx import version_converter

    try:
        made = version_converter.convert_version(model, wanted)
    except (RuntimeError, ValueError, version_converter.ConvertError) as problem:
        hint = "export the model anew in opset 13 or later"
        raise ExportError(f"opset {before} can't be converted to {wanted}: {innermost(problem)}", hint=hint) from problem
    if before < OPSET_OF_RESIZE <= wanted:
        _keep_sampling(made)
    made.ir_version = max(made.ir_version, onnx.helper.find_min_ir_version_for(made.opset_import, ignore_unknown=True))
    return made


def _keep_sampling(model: onnx.ModelProto) -> None:
    """Sample as Upsample and Resize did before opset 11, whose defaults the converter lets slip in."""
    import onnx

    for node in model.graph.node:
        if node.op_type == "Resize" and not any(attribute.name == "coordinate_transformation_mode" for attribute in node.attribute):
            kept = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in kept.items())


def _weights_among_inputs_removed(model: onnx.ModelProto) -> bool:
    stored = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in stored]
    if len(kept) == len(model.graph.input):
        return False
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)
    return True


def _half(model: onnx.ModelProto) -> bool:
    import onnx

    return any(tensor.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16) for tensor in model.graph.initializer)


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let ONNX Runtime fold constants and batch norms, at the level that stays within standard operators.

    Reference: Graph optimizations in ONNX Runtime, basic level,
    https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
    """
    import onnx
    import onnxruntime

    domains = {entry.domain for entry in model.opset_import}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder, muted(native=True):
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # the library's own exceptions share no base but this
            raise ExportError(f"ONNX Runtime can't load the graph: {innermost(problem)}", hint="check the file") from problem
        made = onnx.load(options.optimized_model_filepath)
    used = {node.domain or "" for node in made.graph.node}
    if used <= domains | {""}:
        kept = [entry for entry in made.opset_import if entry.domain in domains]
        del made.opset_import[:]
        made.opset_import.extend(kept)
        return made
    return model
