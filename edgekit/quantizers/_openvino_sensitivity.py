"""Measures in OpenVINO how much noise each layer of a model adds to the outputs when it alone is int8, and which to leave in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.core import openvino_ir
from edgekit.core.machine import this_machine
from edgekit.quantizers._openvino import PASSING
from edgekit.quantizers._sensitivity import FLOAT, Bench, Run, quiet_enough

if TYPE_CHECKING:
    import numpy as np

    from edgekit.core.artifacts import Artifact, Batch
    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan


def with_floats(
    plan: Sequence[LayerPlan], model: Artifact, quantized: Callable[[Sequence[str]], Any], wanted: float, data: DataSet, context: Context
) -> list[LayerPlan]:
    """Return the plan with the fewest further layers in float that let the outputs reach a signal-to-noise ratio.

    Args:
        plan: what would be quantized.
        model: the float IR.
        quantized: makes the quantized ``openvino.Model`` with some layers in float.
        wanted: ratio in dB that the outputs must have on calibration samples.
        data: these samples.
        context: told how far the work has come.

    Raises:
        QuantizationError: no layer can be int8 at that ratio.
    """
    graph = openvino_ir.read(model.model)
    excluded = [layer.layer for layer in plan if layer.precision == FLOAT]
    weighted = {node.get_friendly_name() for node in openvino_ir.layers(graph) if openvino_ir.is_weighted(node)}
    made = quantized(excluded)
    exact = context.scheme is not None and not context.scheme.reduce_range and this_machine().saturates
    bench = Bench(data, _runner(model, graph))

    def alone(layer: str) -> float:
        mixed = made.clone()
        restore_all_but(layer, mixed, graph)
        return bench.noise(_runner(model, mixed, exact=exact))

    return quiet_enough(
        plan,
        [layer.layer for layer in plan if layer.precision != FLOAT and layer.layer in weighted],
        wanted,
        context,
        alone=alone,
        together=lambda floats: bench.noise(_runner(model, quantized([*excluded, *floats]), exact=exact)),
        along=lambda floats: {},
    )


def restore_all_but(layer: str, made: Any, graph: Any) -> None:
    """Let every layer of a quantized model but one read again what it reads in the float model.

    Args:
        layer: name of the one.
        made: the quantized model; it is changed.
        graph: the float model.
    """
    from openvino import opset13

    nodes = {node.get_friendly_name(): node for node in made.get_ops()}
    for node in graph.get_ordered_ops():
        name = node.get_friendly_name()
        if name == layer or _hands_on(node, layer):
            continue
        for place, value in enumerate(node.input_values()):
            source = value.get_node()
            if source.get_type_name() == "Constant":
                restored = opset13.constant(source.get_data()).output(0)
            else:
                restored = nodes[source.get_friendly_name()].output(value.get_index())
            nodes[name].input(place).replace_source_output(restored)


def _hands_on(node: Any, layer: str) -> bool:
    """Whether a node only moves values to a layer, so that a quantizer before it is that layer's."""
    readers = [target.get_node().get_friendly_name() for port in node.outputs() for target in port.get_target_inputs()]
    return node.get_type_name() in PASSING and layer in readers


def _runner(model: Artifact, graph: Any, *, exact: bool = False) -> Run:
    """Compile a model; ``exact`` has it round to 8 bits and multiply in float, for kernels here would saturate and the target's don't."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, **({"LP_TRANSFORMS_MODE": "NO"} if exact else {})}
    request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()

    def run(sample: Batch) -> list[np.ndarray]:
        found = request.infer({spec.name: sample[spec.name] for spec in model.inputs})
        return [found[index] for index in range(len(model.outputs))]

    return run
