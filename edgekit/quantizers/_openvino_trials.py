"""Many int8 variants of one OpenVINO model from one run of NNCF: the quantized model with some layers as they were."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import openvino_ir
from edgekit.core.trials import FLOAT, Trials, layers_and_kinds
from edgekit.quantizers import _openvino

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.quantization import LayerPlan

PASSIVE = ("ReduceMean", "AvgPool", "MaxPool", "PRelu", "Relu", "Clamp")
"""Operators that pass on what they read, or nearly so."""


def trials(model: Artifact, plan: list[LayerPlan], made: Any, precision: str) -> Trials:
    """Make ready to give any layers of a quantized model back their float weights and inputs.

    Args:
        model: the float IR.
        plan: what was quantized.
        made: the quantized ``openvino.Model`` that follows it.
        precision: what the made models are called.
    """
    graph = openvino_ir.read(model.model)
    names = _openvino.names_of(graph)
    computing = {
        node.get_friendly_name() for node in openvino_ir.layers(graph) if openvino_ir.is_weighted(node) or node.get_type_name() == "MatMul"
    }
    integer = {row.layer for row in plan if row.precision != FLOAT}

    def make(variant: list[LayerPlan], out: Path) -> Artifact:
        mixed = made.clone()
        restore({row.layer for row in variant if row.precision == FLOAT} & integer, mixed, graph)
        return _openvino.write(mixed, names, variant, model, out, precision)

    return Trials(plan, make, layers_and_kinds(plan, computing, PASSIVE))


def restore(layers: Collection[str], made: Any, graph: Any) -> None:
    """Let some layers of a quantized model read again what they read in the float model, and add the bias that they add there.

    Args:
        layers: names of these layers.
        made: the quantized model; it is changed.
        graph: the float model.
    """
    from openvino import opset13

    nodes = {node.get_friendly_name(): node for node in made.get_ops()}
    for node in reversed(graph.get_ordered_ops()):
        if not (node.get_friendly_name() in layers or _adds_bias(node, layers) or _only_hands_on(node, layers)):
            continue
        for place, value in enumerate(node.input_values()):
            source = value.get_node()
            if source.get_type_name() == "Constant":
                restored = opset13.constant(source.get_data()).output(0)
            else:
                restored = nodes[source.get_friendly_name()].output(value.get_index())
            nodes[node.get_friendly_name()].input(place).replace_source_output(restored)


def _adds_bias(node: Any, layers: Collection[str]) -> bool:
    """Whether a node adds a constant to what one of the layers computes."""
    sources = [value.get_node() for value in node.input_values()]
    constant = [source.get_type_name() == "Constant" for source in sources]
    return node.get_type_name() == "Add" and any(constant) and any(source.get_friendly_name() in layers for source in sources)


def _only_hands_on(node: Any, layers: Collection[str]) -> bool:
    """Whether a node only moves values to some of the layers, so that a quantizer before it is theirs."""
    if node.get_type_name() not in _openvino.PASSING:
        return False
    readers = [target.get_node() for port in node.outputs() for target in port.get_target_inputs()]
    return bool(readers) and all(reader.get_friendly_name() in layers or _only_hands_on(reader, layers) for reader in readers)
