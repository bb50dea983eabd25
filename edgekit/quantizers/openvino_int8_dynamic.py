"""Int8 weights for OpenVINO without calibration.

Activations of matrix products are quantized while the model runs where OpenVINO's kernels do that; convolutions compute in float.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import openvino_ir
from edgekit.core.chatter import innermost, muted
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Quantizer
from edgekit.core.quantization import refuse_min_sqnr
from edgekit.quantizers import _openvino

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan


class OpenVinoInt8Dynamic(Quantizer):
    """Store weights in 8 bits, symmetric, one scale a channel."""

    accepts = "openvino"
    precision = "int8-dynamic"
    requires = {"openvino": "openvino", "nncf": "nncf"}
    packages = ("openvino", "nncf")

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each layer's precision.

        Raises:
            QuantizationError: one scale a tensor is wanted, a pattern matches no layer, there are no weights, or ``min_sqnr`` is asked for.
        """
        refuse_min_sqnr(self.spec, "int8 weights for OpenVINO")
        if self.spec.granularity != "channel":
            raise QuantizationError(
                "OpenVINO's weight compression has one scale a channel", hint="use granularity: channel, or format onnx"
            )
        graph = openvino_ir.read(model.model)
        found = {node.get_friendly_name() for node in openvino_ir.layers(graph) if openvino_ir.is_weighted(node)}
        return _openvino.layer_plan(graph, found, self.precision, self.spec, reason="NNCF does not compress it")

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the IR with int8 weights."""
        graph = openvino_ir.read(model.model)
        names = _openvino.names_of(graph)
        with muted():
            import nncf

            try:
                made: Any = nncf.compress_weights(
                    graph,
                    mode=nncf.CompressWeightsMode.INT8_SYM,
                    ignored_scope=nncf.IgnoredScope(names=_openvino.kept_in_float(plan, self.precision)),
                )
            except (RuntimeError, ValueError, nncf.InternalError) as problem:
                raise QuantizationError(
                    f"NNCF can't compress this model: {innermost(problem)}", hint="use int8-static or fp16"
                ) from problem
        return _openvino.write(made, names, plan, model, out, self.precision)
