"""Static int8 for TFLite: all operators that LiteRT has int8 kernels for, between a float input and a float output.

Transformers don't survive static int8 in their attention; there convolutions become static and matrix products dynamic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core import tflite_model
from edgekit.core.chatter import muted
from edgekit.core.errors import QuantizationError
from edgekit.quantizers import _tflite, _tflite_trials
from edgekit.quantizers._tflite_buckets import TfLiteQuantizer, refuse_lengths
from edgekit.quantizers._tflite_sensitivity import with_floats
from edgekit.quantizers._trained import marked

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan
    from edgekit.core.trials import Trials

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
PRODUCTS = ("FULLY_CONNECTED", "EMBEDDING_LOOKUP")


class TfLiteInt8Static(TfLiteQuantizer):
    """Quantize weights and activations to 8 bits after calibration.

    References: Jacob et al. 2018 (arXiv:1712.05877); the LiteRT 8-bit quantization specification; for ``mse`` Nagel et al. 2021
    (arXiv:2106.08295); for ``min_sqnr`` Lin et al. 2016 (arXiv:1511.06393).
    """

    accepts = "tflite"
    precision = "int8-static"
    calibrates = True
    requires = {"ai_edge_quantizer": "ai-edge-quantizer", "ai_edge_litert": "ai-edge-litert"}
    packages = ("ai-edge-quantizer", "ai-edge-litert", "onnxruntime")

    @classmethod
    def check_packages(cls) -> None:
        """Import what the plugin needs, without the greetings of the packages behind it."""
        with muted(native=True):
            super().check_packages()

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each layer's precision; with ``min_sqnr`` by measuring each layer's noise on calibration samples.

        Raises:
            QuantizationError: the target wants another kind of int8 than TFLite has, a pattern matches no layer, or ``min_sqnr`` can't be
                reached.
        """
        scheme = context.scheme
        if scheme is None:
            raise QuantizationError("the target says not what its int8 kernels expect", hint="choose a target with int8 units, or fp16")
        if scheme.activations != "int8" or scheme.symmetric or scheme.reduce_range:
            raise QuantizationError(
                "TFLite's int8 has signed activations with a zero-point and 8-bit weights; the target's backend wants otherwise",
                hint="give the target's tflite backend int8: {activations: int8, symmetric: false, reduce_range: false}",
            )
        if self.spec.min_sqnr is not None:
            refuse_lengths(model, "min_sqnr")
        graph = tflite_model.read(model.model)
        layers = tflite_model.layers(graph)
        with muted(native=True):
            at_odds = _tflite.at_odds(graph, layers)
            static = _tflite.supported(layers, self.precision, self.spec.granularity) - at_odds
            dynamic = _tflite.supported(layers, "int8-dynamic", self.spec.granularity) - at_odds
        if _tflite.is_transformer(layers):
            wanted = {layer.name: self.precision for layer in layers if layer.operator in CONVOLUTIONS and layer.name in static}
            wanted |= {
                layer.name: "int8-dynamic" for layer in layers if layer.operator in PRODUCTS and layer.weighted and layer.name in dynamic
            }
        else:
            wanted = dict.fromkeys(static, self.precision)
        plan = _tflite.layer_plan(layers, wanted, self.spec, reason="LiteRT's quantizer has no int8 form of it that loads")
        plan = marked(plan, _tflite.trained_ranges(model, self.spec, context))
        return plan if self.spec.min_sqnr is None else with_floats(plan, model, self.spec, self.spec.min_sqnr, context)

    def quantize_one(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Calibrate and write the quantized flatbuffer.

        Raises:
            QuantizationError: no calibration samples, or the quantizer fails on the model.
        """
        static = any(layer.precision == self.precision for layer in plan)
        ranges = _tflite.tensor_ranges(model, self.spec, context) if static else None
        with muted(native=True):
            made = _tflite.quantize(model, plan, self.spec, ranges)
        return _tflite.write(made, plan, model, out, self.precision)

    def trials(self, model: Artifact, plan: list[LayerPlan], context: Context) -> Trials:
        """Calibrate once for many variants of a plan.

        Raises:
            QuantizationError: no calibration samples, or a target without int8 kernels for this format.
        """
        return _tflite_trials.trials(model, plan, self.spec, context, self.precision)
