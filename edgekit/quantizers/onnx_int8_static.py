"""Static int8 for ONNX graphs, written as the Q/DQ pairs that the target's kernels fuse.

x86 wants U8 activations (VNNI multiplies u8 by s8); TensorRT wants symmetric S8 with zero-point 0 and float biases. The wrong choice
is slower than float, so the scheme comes from the target and is never guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Quantizer
from edgekit.quantizers import _onnx

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import Int8Scheme, LayerPlan


class OnnxInt8Static(Quantizer):
    """Quantize weights and activations to 8 bits after calibration.

    Reference: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference".
    """

    accepts = "onnx"
    precision = "int8-static"
    calibrates = True
    requires = {"onnx": "onnx", "onnxruntime": "onnxruntime"}
    packages = ("onnx", "onnxruntime")

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each node's precision.

        Raises:
            QuantizationError: an exclude pattern matches no node, or nothing is left to quantize.
        """
        from onnxruntime.quantization.registry import QDQRegistry

        return _onnx.layer_plan(model, list(QDQRegistry), self.precision, self.spec)

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Calibrate and write the Q/DQ graph.

        Raises:
            QuantizationError: no target scheme or no calibration samples.
        """
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        scheme = wanted_scheme(context)
        kinds = sorted({layer.operator for layer in plan})
        kept = [layer.layer for layer in plan if layer.precision != self.precision]
        with _onnx.quiet():
            graph = _onnx.prepared(model)
            ranges = _onnx.tensor_ranges(graph, kinds, self.spec, context, symmetric=False)
            quantizer = QDQQuantizer(
                graph,
                per_channel=self.spec.granularity == "channel",
                reduce_range=scheme.reduce_range,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8 if scheme.activations == "uint8" else QuantType.QInt8,
                tensors_range=ranges,
                nodes_to_quantize=[],
                nodes_to_exclude=kept,
                op_types_to_quantize=kinds,
                extra_options={
                    "ActivationSymmetric": scheme.symmetric,
                    "WeightSymmetric": True,
                    "QuantizeBias": not scheme.symmetric,
                },
            )
            quantizer.quantize_model()
        return _onnx.write(quantizer.model.model, plan, model, out, self.precision)


def wanted_scheme(context: Context) -> Int8Scheme:
    """Return what the target's int8 kernels expect.

    Raises:
        QuantizationError: the target has no int8 kernels for ONNX.
    """
    if context.scheme is None:
        raise QuantizationError("the target says not what its int8 kernels expect", hint="choose a target with int8 units, or fp16")
    return context.scheme
