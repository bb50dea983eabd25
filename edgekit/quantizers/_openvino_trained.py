"""Trained ranges in OpenVINO: found by running the float model on the example, put into the quantizers that NNCF placed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.core import openvino_ir
from edgekit.quantizers._trained import first_sample, ranges_of, trained_for

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import QuantizationSpec, TrainedRange

LEVELS = 256
CLIPPING = ("Relu", "Clamp")


def trained_ranges(model: Artifact, spec: QuantizationSpec, context: Context) -> dict[str, TrainedRange]:
    """Return the ranges that were trained, by the node whose output has them.

    Raises:
        QuantizationError: they were trained for other weights than the recipe asks for, or for another graph.
    """
    import openvino

    trained = trained_for(model, spec)
    if trained is None:
        return {}
    graph = openvino_ir.read(model.model)
    nodes = [node for node in graph.get_ordered_ops() if _is_computed(node)]
    shown = {node.get_friendly_name(): openvino.opset13.result(node.output(0)) for node in nodes}
    graph.add_results(list(shown.values()))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
    outputs = request.infer(first_sample(context))
    first = len(model.outputs)
    return ranges_of({name: outputs[first + index] for index, name in enumerate(shown)}, trained)


def layers_with(graph: Any, trained: Mapping[str, TrainedRange]) -> list[str]:
    """Names of the layers whose output has a trained range, once the bias is added and the activation function has clipped it."""
    return [node.get_friendly_name() for node in openvino_ir.layers(graph) if any(n in trained for n in _whole_layer(node))]


def put_ranges(made: Any, trained: Mapping[str, TrainedRange], *, symmetric: bool) -> None:
    """Give NNCF's quantizers of activations the trained ranges, in place.

    Args:
        made: the quantized ``openvino.Model``.
        trained: range by the node whose output has it.
        symmetric: whether the ranges of signed tensors reach equally far on both sides.
    """
    import numpy as np
    from openvino import opset13

    for node in made.get_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        found = trained.get(node.input_value(0).get_node().get_friendly_name())
        if found is None:
            continue
        low, high = found.low, found.high
        if symmetric and low < 0:
            high = max(-low, high)
            low = -high * LEVELS / (LEVELS - 2)
        for places, end in (((1, 3), low), ((2, 4), high)):
            constant = opset13.constant(np.array(end, np.float32)).output(0)
            for place in places:
                node.input(place).replace_source_output(constant)


def _whole_layer(node: Any) -> Iterator[str]:
    """Yield the names of a node and of what alone reads it while that is its bias or its activation function."""
    yield node.get_friendly_name()
    readers = [port.get_node() for port in node.output(0).get_target_inputs()]
    if len(readers) == 1:
        kind, values = readers[0].get_type_name(), readers[0].input_values()
        biased = kind == "Add" and any(value.get_node().get_type_name() == "Constant" for value in values)
        if biased or kind in CLIPPING:
            yield from _whole_layer(readers[0])


def _is_computed(node: Any) -> bool:
    computed = node.get_output_size() == 1 and node.get_output_element_type(0).is_real()
    return computed and node.get_type_name() not in ("Constant", "Result") and len(node.get_output_partial_shape(0)) > 0
