"""Static int8 for ONNX graphs, written as the Q/DQ pairs that the target's kernels fuse.

x86 wants U8 activations (VNNI multiplies u8 by s8); TensorRT wants symmetric S8 with zero-point 0 and float biases. The wrong choice
is slower than float, so the scheme comes from the target and is never guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Quantizer
from edgekit.quantizers import _onnx, _onnx_trials
from edgekit.quantizers._onnx_ranges import tensor_ranges, trained_ranges
from edgekit.quantizers._onnx_sensitivity import with_floats
from edgekit.quantizers._trained import marked

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import Int8Scheme, LayerPlan
    from edgekit.core.trials import Trials


class OnnxInt8Static(Quantizer):
    """Quantize weights and activations to 8 bits after calibration.

    References: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference";
    for ``mse`` Nagel et al. 2021 (arXiv:2106.08295); for ``min_sqnr`` Lin et al. 2016 (arXiv:1511.06393).
    """

    accepts = "onnx"
    precision = "int8-static"
    calibrates = True
    requires = {"onnx": "onnx", "onnxruntime": "onnxruntime"}
    packages = ("onnx", "onnxruntime")

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each node's precision; with ``min_sqnr`` by measuring each layer's noise on calibration samples.

        Raises:
            QuantizationError: an exclude pattern matches no node, nothing is left to quantize, or ``min_sqnr`` can't be reached.
        """
        from onnxruntime.quantization.registry import QDQRegistry

        plan = _onnx.layer_plan(model, list(QDQRegistry), self.precision, self.spec)
        if self.spec.granularity == "channel":
            plan = _without_grouped_upsampling(plan, model)
        if "trained" in model.metadata:
            graph = _onnx.prepared(model)
            trained = trained_ranges(model, graph, list(QDQRegistry), self.spec, context)
            plan = marked(plan, [node.name for node in graph.graph.node if node.output[0] in trained])
        if self.spec.min_sqnr is None:
            return plan
        return with_floats(plan, model, self.spec, wanted_scheme(context), self.spec.min_sqnr, context)

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Calibrate and write the Q/DQ graph.

        Raises:
            QuantizationError: no target scheme or no calibration samples.
        """
        scheme = wanted_scheme(context)
        kinds = sorted({layer.operator for layer in plan})
        kept = [layer.layer for layer in plan if layer.precision != self.precision]
        with _onnx.quiet():
            graph = _onnx.prepared(model)
            ranges = tensor_ranges(model, graph, kinds, self.spec, scheme, context)
            made = _onnx.with_pairs(graph, ranges, kinds, self.spec, scheme, kept=kept)
        return _onnx.write(made, plan, model, out, self.precision)

    def trials(self, model: Artifact, plan: list[LayerPlan], context: Context) -> Trials:
        """Calibrate once for many variants of a plan.

        Raises:
            QuantizationError: no calibration samples, or a target without int8 kernels for this format.
        """
        return _onnx_trials.trials(model, plan, self.spec, wanted_scheme(context), context, self.precision)


def _without_grouped_upsampling(plan: list[LayerPlan], model: Artifact) -> list[LayerPlan]:
    """Keep grouped ConvTranspose with a bias in float, as its kernel is anyway.

    Raises:
        QuantizationError: nothing else is left to quantize.
    """
    grouped = {
        node.name
        for node in _onnx.named_nodes(_onnx.load(model))
        if node.op_type == "ConvTranspose" and len(node.input) == 3 and any(a.name == "group" and a.i > 1 for a in node.attribute)
    }
    kept = {"precision": "fp32", "reason": "groups share scales of weights, which the bias can't"}
    plan = [row.model_copy(update=kept) if row.layer in grouped and row.precision != "fp32" else row for row in plan]
    if all(row.precision == "fp32" for row in plan):
        raise QuantizationError("no layer of this model becomes int8", hint="use a float precision, or granularity: tensor")
    return plan


def wanted_scheme(context: Context) -> Int8Scheme:
    """Return what the target's int8 kernels expect.

    Raises:
        QuantizationError: the target has no int8 kernels for ONNX.
    """
    if context.scheme is None:
        raise QuantizationError("the target says not what its int8 kernels expect", hint="choose a target with int8 units, or fp16")
    return context.scheme
