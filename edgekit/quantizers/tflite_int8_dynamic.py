"""Int8 weights for TFLite without calibration; LiteRT quantizes activations while the model runs.

With one scale a channel the file needs LiteRT: the older tflite-runtime computes such matrix products wrongly. For that one take
``granularity: tensor``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core import tflite_model
from edgekit.core.chatter import muted
from edgekit.core.quantization import refuse_min_sqnr
from edgekit.quantizers import _tflite
from edgekit.quantizers._tflite_buckets import TfLiteQuantizer

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan


class TfLiteInt8Dynamic(TfLiteQuantizer):
    """Store the weights of matrix products, convolutions and embeddings in 8 bits; float inputs and outputs."""

    accepts = "tflite"
    precision = "int8-dynamic"
    requires = {"ai_edge_quantizer": "ai-edge-quantizer", "ai_edge_litert": "ai-edge-litert"}
    packages = ("ai-edge-quantizer", "ai-edge-litert")

    @classmethod
    def check_packages(cls) -> None:
        """Import what the plugin needs, without the greetings of the packages behind it."""
        with muted(native=True):
            super().check_packages()

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each layer's precision.

        Raises:
            QuantizationError: a pattern matches no layer, there are no weights, or ``min_sqnr`` is asked for.
        """
        refuse_min_sqnr(self.spec, "dynamic int8 for TFLite")
        layers = tflite_model.layers(tflite_model.read(model.model))
        with muted(native=True):
            found = _tflite.supported(layers, self.precision, self.spec.granularity)
        wanted = {layer.name: self.precision for layer in layers if layer.weighted and layer.name in found}
        return _tflite.layer_plan(layers, wanted, self.spec, reason="LiteRT has no dynamic int8 kernel for it")

    def quantize_one(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the flatbuffer with int8 weights.

        Raises:
            QuantizationError: the quantizer fails on the model.
        """
        with muted(native=True):
            made = _tflite.quantize(model, plan, self.spec, None)
        return _tflite.write(made, plan, model, out, self.precision)
