"""Quantizes TFLite files that hold a graph for each of several lengths: each graph alone, by one plan, the weights stored once again."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import tflite_buckets, tflite_model
from edgekit.core.artifacts import Artifact
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Quantizer

if TYPE_CHECKING:
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan

LENGTHS = "lengths"


class TfLiteQuantizer(Quantizer):
    """What the TFLite quantizers share."""

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the quantized flatbuffer; where it holds several graphs, each is quantized alone.

        Raises:
            QuantizationError: the model is quantized already, there are no calibration samples where they are needed, or the quantizer
                fails on the model.
        """
        if _quantized(tflite_model.read(model.model)):
            raise QuantizationError("the flatbuffer is quantized already", hint="start from its float version")
        if LENGTHS not in model.metadata:
            return self.quantize_one(model, plan, out, context)
        made = {}
        for length, graph in tflite_buckets.parted(tflite_model.read(model.model)).items():
            taken, given = (out / f"{side}-{length}" for side in ("float", "made"))
            taken.mkdir()
            given.mkdir()
            tflite_model.write(graph, taken / tflite_model.FILE)
            data = context.calibration and tflite_buckets.Fitted(context.calibration, length)
            part = tflite_model.describe(taken, model.precision, {})
            done = self.quantize_one(part, plan, given, replace(context, calibration=data))
            made[length] = tflite_model.read(done.model)
            (given / "plan.json").replace(out / "plan.json")
            shutil.rmtree(taken)
            shutil.rmtree(given)
        tflite_model.write(tflite_buckets.merged(made), out / tflite_model.FILE)
        return tflite_model.describe(out, self.precision, model.metadata)

    @abstractmethod
    def quantize_one(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write a flatbuffer of one graph, quantized as planned."""


def _quantized(model: Any) -> bool:
    """Whether any tensor that a file stores has scales."""
    tensors = (tensor for graph in model.subgraphs for tensor in graph.tensors if model.buffers[tensor.buffer].data is not None)
    return any(tensor.quantization is not None and tensor.quantization.scale is not None for tensor in tensors)


def refuse_lengths(model: Artifact, what: str) -> None:
    """Refuse what runs a model on samples as they are.

    Raises:
        QuantizationError: the model holds a graph for each of several lengths.
    """
    if LENGTHS in model.metadata:
        raise QuantizationError(f"{what} does not go with several lengths in TFLite", hint="pad all samples alike: padding: max_length")
