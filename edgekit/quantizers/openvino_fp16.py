"""Half-precision weights for OpenVINO: half the size; the CPU widens them again when it loads the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import openvino_ir
from edgekit.core.chatter import muted
from edgekit.core.plugin import Quantizer
from edgekit.core.quantization import refuse_min_sqnr
from edgekit.quantizers import _openvino

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan

LARGEST = 65504.0
"""Largest number that fp16 holds; OpenVINO would clip what is beyond."""


class OpenVinoFp16(Quantizer):
    """Store weights in fp16; inputs and outputs stay float32."""

    accepts = "openvino"
    precision = "fp16"
    requires = {"openvino": "openvino"}
    packages = ("openvino",)

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each layer's precision.

        Raises:
            QuantizationError: an exclude pattern matches no layer, or ``min_sqnr`` is asked for.
        """
        refuse_min_sqnr(self.spec, "fp16 for OpenVINO")
        graph = openvino_ir.read(model.model)
        stored = {node.get_friendly_name() for node in openvino_ir.layers(graph) if openvino_ir.is_weighted(node) and _fits(node)}
        return _openvino.layer_plan(graph, stored, self.precision, self.spec, reason="its weights are beyond the range of fp16")

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the IR with fp16 weights."""
        graph = openvino_ir.read(model.model)
        names = _openvino.names_of(graph)
        chosen = {layer.layer for layer in plan if layer.precision == self.precision}
        with muted():
            for node in graph.get_ordered_ops():
                if node.get_friendly_name() in chosen:
                    _halve(node)
            return _openvino.write(graph, names, plan, model, out, self.precision)


def _halve(node: Any) -> None:
    """Let a node read its float constants from fp16; OpenVINO's own compression takes all layers or none."""
    import numpy as np
    from openvino import opset13

    for place, value in enumerate(node.input_values()):
        stored = value.get_node()
        if stored.get_type_name() == "Constant" and value.get_element_type().is_real():
            half = opset13.constant(stored.get_data().astype(np.float16))
            node.input(place).replace_source_output(opset13.convert(half, "f32").output(0))


def _constants(node: Any) -> list[Any]:
    return [value.get_node() for value in node.input_values() if value.get_node().get_type_name() == "Constant"]


def _fits(node: Any) -> bool:
    import numpy as np

    return all(c.get_element_type().is_integral() or float(np.abs(c.get_data()).max(initial=0)) <= LARGEST for c in _constants(node))
