"""Many int8 variants of one flatbuffer from one calibration."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.algorithms import assignment
from edgekit.core import tflite_model
from edgekit.core.chatter import muted
from edgekit.core.trials import FLOAT, Trials, layers_and_kinds
from edgekit.quantizers import _tflite
from edgekit.quantizers._tflite_buckets import refuse_lengths

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan, QuantizationSpec

PASSIVE = (
    "RELU",
    "RELU6",
    "LEAKY_RELU",
    "RESHAPE",
    "TRANSPOSE",
    "SQUEEZE",
    "EXPAND_DIMS",
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
    "SLICE",
    "STRIDED_SLICE",
    "SPLIT",
    "CONCATENATION",
    "PAD",
    "PADV2",
    "MEAN",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "DEPTH_TO_SPACE",
    "GATHER",
)
"""Operators that pass on what they read, or nearly so."""


def trials(model: Artifact, plan: list[LayerPlan], spec: QuantizationSpec, context: Context, precision: str) -> Trials:
    """Calibrate once and make ready to quantize any layers.

    Args:
        model: the float flatbuffer.
        plan: what would be quantized.
        spec: calibration and granularity.
        context: holds the calibration samples.
        precision: what the made models are called.

    Raises:
        QuantizationError: the model holds a graph for each of several lengths, or there are no calibration samples.
    """
    refuse_lengths(model, "a search over layers")
    graph = tflite_model.read(model.model)
    layers = tflite_model.layers(graph)
    nodes = [_node(graph, layer) for layer in layers]
    computing = {layer.name for layer in layers if layer.weighted or layer.operator == "BATCH_MATMUL"}
    integer = {row.layer for row in plan if row.precision != FLOAT}
    ranges = _tflite.tensor_ranges(model, spec, context) if any(row.precision == precision for row in plan) else None

    def make(variant: list[LayerPlan], out: Path) -> Artifact:
        with muted(native=True):
            made = _tflite.quantize(model, variant, spec, dict(ranges) if ranges else None)
        return _tflite.write(made, variant, model, out, precision)

    def stranded(floats: Collection[str]) -> set[str]:
        return assignment.stranded(nodes, integer, computing, floats)

    return Trials(plan, make, layers_and_kinds(plan, computing, PASSIVE), stranded)


def _node(graph: object, layer: tflite_model.Layer) -> assignment.Node:
    inputs = tuple(str(index) for index in layer.node.inputs if index >= 0 and tflite_model.constant(graph, int(index)) is None)
    return assignment.Node(layer.name, inputs, tuple(str(index) for index in layer.node.outputs))
