"""Many int8 variants of one ONNX graph from one calibration."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.algorithms import assignment
from edgekit.core.trials import FLOAT, Trials, layers_and_kinds
from edgekit.quantizers import _onnx
from edgekit.quantizers._onnx_ranges import tensor_ranges
from edgekit.quantizers._onnx_sensitivity import COMPUTING, followers

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import Int8Scheme, LayerPlan, QuantizationSpec

PASSIVE = (
    "Relu",
    "Clip",
    "LeakyRelu",
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "MaxPool",
    "Slice",
    "Split",
    "Concat",
    "Pad",
    "Resize",
    "DepthToSpace",
    "GlobalAveragePool",
    "AveragePool",
)
"""Operators that pass on what they read, or nearly so."""


def trials(model: Artifact, plan: list[LayerPlan], spec: QuantizationSpec, scheme: Int8Scheme, context: Context, precision: str) -> Trials:
    """Calibrate once and make ready to place Q/DQ pairs around any layers.

    Args:
        model: the float graph.
        plan: what would be quantized.
        spec: calibration and granularity.
        scheme: what the target's kernels expect.
        context: holds the calibration samples.
        precision: what the made models are called.
    """
    kinds = sorted({row.operator for row in plan})
    with _onnx.quiet():
        graph = _onnx.prepared(model)
        ranges = tensor_ranges(model, graph, kinds, spec, scheme, context)
    stored = {weight.name for weight in graph.graph.initializer}
    nodes = [
        assignment.Node(node.name, tuple(name for name in node.input if name not in stored), tuple(node.output))
        for node in graph.graph.node
    ]
    looking_up = {node.name for node in graph.graph.node if node.op_type == "Gather" and node.input[0] in stored}
    computing = {row.layer for row in plan if row.operator in COMPUTING or row.layer in looking_up}
    integer = {row.layer for row in plan if row.precision != FLOAT}

    def make(variant: list[LayerPlan], out: Path) -> Artifact:
        kept = [row.layer for row in variant if row.precision == FLOAT]
        with _onnx.quiet():
            made = _onnx.with_pairs(copy.deepcopy(graph), ranges, kinds, spec, scheme, kept=kept)
        return _onnx.write(made, variant, model, out, precision)

    def stranded(floats: Collection[str]) -> set[str]:
        return assignment.stranded(nodes, integer, computing, floats)

    return Trials(plan, make, layers_and_kinds(plan, computing, PASSIVE, followers(graph)), stranded)
