"""Half-precision weights for TFLite: half the size; computed in float32, or in fp16 where the delegate does that."""

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

LARGEST = 65504.0
"""Largest number that fp16 holds."""


class TfLiteFp16(TfLiteQuantizer):
    """Store weights in fp16; inputs and outputs stay float32."""

    accepts = "tflite"
    precision = "fp16"
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
        refuse_min_sqnr(self.spec, "fp16 for TFLite")
        import numpy as np

        graph = tflite_model.read(model.model)
        layers = tflite_model.layers(graph)
        with muted(native=True):
            found = _tflite.supported(layers, self.precision, self.spec.granularity)
        wanted = {}
        for layer in layers:
            if layer.weighted and layer.name in found:
                raw = tflite_model.constant(graph, layer.node.inputs[tflite_model.WEIGHTS_AT[layer.operator]])
                if float(np.abs(np.frombuffer(raw, np.float32)).max(initial=0)) <= LARGEST:
                    wanted[layer.name] = self.precision
        return _tflite.layer_plan(
            layers, wanted, self.spec, reason="its weights are beyond fp16, or LiteRT's quantizer has no fp16 form of it"
        )

    def quantize_one(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the flatbuffer with fp16 weights.

        Raises:
            QuantizationError: the quantizer fails on the model.
        """
        with muted(native=True):
            made = _tflite.quantize(model, plan, self.spec, None)
        return _tflite.write(made, plan, model, out, self.precision)
