"""Int4 weights for LiteRT, in the form its quantizer writes them: one scale a channel, or blocks of a matrix product's weights.

LiteRT's kernels quantize activations to 8 bits while the model runs. The older tflite-runtime crashes on such files; the version of the
operators that they ask for makes it refuse them. What is stored are the points of the grid of :mod:`edgekit.algorithms.int4`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.algorithms.int4 import Grid, fits, pack, to_grid
from edgekit.core import tflite_model
from edgekit.core.errors import QuantizationError
from edgekit.core.quantization import refuse_min_sqnr
from edgekit.quantizers import _tflite
from edgekit.quantizers._tflite_buckets import TfLiteQuantizer

if TYPE_CHECKING:
    import numpy as np

    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan

PRODUCT, CONVOLUTION = "FULLY_CONNECTED", "CONV_2D"
GROUPS = (32, 64, 128, 256)
"""Block sizes of LiteRT's kernel (ai_edge_quantizer, QuantGranularity)."""
NO_KERNEL = "LiteRT has no int4 kernel for it"


class TfLiteInt4(TfLiteQuantizer):
    """Store the weights of matrix products and full convolutions in 4 bits; float inputs and outputs, no calibration.

    Reference: Frantar et al. 2022, "GPTQ" (arXiv:2210.17323), for groups of weights that share a scale.
    """

    accepts = "tflite"
    precision = "int4"
    requires = {"ai_edge_litert": "ai-edge-litert"}
    packages = ("ai-edge-litert",)

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each layer's precision.

        Raises:
            QuantizationError: zero points or a group size that LiteRT lacks, a pattern matches no layer, there are no weights, or
                ``min_sqnr`` is asked for.
        """
        refuse_min_sqnr(self.spec, "int4 for TFLite")
        if not self.spec.symmetric:
            raise QuantizationError("LiteRT's int4 kernels have no zero points of weights", hint="use symmetric: true, or format onnx")
        if self.spec.group not in (None, *GROUPS):
            raise QuantizationError(f"LiteRT has no groups of {self.spec.group} weights", hint=f"use one of: {', '.join(map(str, GROUPS))}")
        graph = tflite_model.read(model.model)
        layers = tflite_model.layers(graph)
        problems = {layer.name: self._problem(graph, layer) for layer in layers if layer.weighted}
        wanted = {name: self.precision for name, problem in problems.items() if not problem}
        plans = _tflite.layer_plan(layers, wanted, self.spec, reason=NO_KERNEL)
        told = (plan.reason == NO_KERNEL for plan in plans)
        return [p.model_copy(update={"reason": problems[p.layer]}) if silent else p for p, silent in zip(plans, told, strict=True)]

    def quantize_one(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the flatbuffer with 4-bit weights."""
        graph = tflite_model.read(model.model)
        chosen = {layer.layer for layer in plan if layer.precision == self.precision}
        layers = tflite_model.layers(graph)
        places = {layer.name: layer.node.inputs[tflite_model.WEIGHTS_AT[layer.operator]] for layer in layers if layer.weighted}
        shared = {places[layer.name] for layer in layers if layer.weighted and layer.name not in chosen}
        done: dict[tuple[int, bool], int] = {}
        for layer in layers:
            if layer.name not in chosen:
                continue
            place, product = places[layer.name], layer.operator == PRODUCT
            if (place, product) not in done:
                weights = _weights(graph, place)
                group = self.spec.group if product else None
                matrix = weights.reshape(len(weights), -1)
                grid = to_grid(matrix, group, shared=self.spec.granularity == "tensor")
                done[place, product] = _store(graph, place, grid, blocks=group is not None, keep=place in shared)
            layer.node.inputs[1] = done[place, product]
        for code in graph.operatorCodes:
            if tflite_model.code_name(code) == PRODUCT:
                code.version = max(code.version, _tflite.CHANNEL_SCALES_SINCE[PRODUCT])
        return _tflite.write(graph, plan, model, out, self.precision)

    def _problem(self, graph: Any, layer: tflite_model.Layer) -> str:
        """Why a layer with weights stays in float; empty if it need not."""
        if layer.operator not in (PRODUCT, CONVOLUTION):
            return NO_KERNEL
        weights = _weights(graph, layer.node.inputs[1])
        if self.spec.group and layer.operator == PRODUCT and weights.shape[1] % self.spec.group:
            return f"{weights.shape[1]} weights a channel are not whole groups of {self.spec.group}"
        return "" if fits(weights) else "its scales are beyond fp16"


def _weights(graph: Any, index: int) -> np.ndarray:
    import numpy as np

    return np.frombuffer(bytes(tflite_model.constant(graph, index)), np.float32).reshape(graph.subgraphs[0].tensors[index].shape)


def _store(graph: Any, index: int, grid: Grid, *, blocks: bool, keep: bool) -> int:
    """Write a grid into the place of a float tensor, or beside it where others still read that; return its index."""
    import copy

    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    tensors = graph.subgraphs[0].tensors
    tensor = copy.copy(tensors[index])
    tensor.buffer = _buffer(graph, pack(grid.integers.reshape(-1)))
    tensor.type = schema.TensorType.INT4
    tensor.quantization = schema.QuantizationParametersT()
    if blocks:
        scales = schema.TensorT()
        scales.name, scales.type = tensor.name + b"_scales", schema.TensorType.FLOAT16
        scales.shape = np.array(grid.scales.shape, np.int32)
        scales.buffer = _buffer(graph, np.frombuffer(grid.scales.astype(np.float16).tobytes(), np.uint8))
        details = schema.BlockwiseQuantizationT()
        details.scales, details.zeroPoints, details.blockSize = len(tensors), -1, grid.group
        tensors.append(scales)
        tensor.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
        tensor.quantization.details = details
    else:
        tensor.quantization.scale = np.array(grid.scales[:, 0], np.float32)
        tensor.quantization.zeroPoint = np.zeros(len(grid.scales), np.int64)
        tensor.quantization.quantizedDimension = 0
    if keep:
        tensor.name = tensor.name + b"_int4"
        tensors.append(tensor)
        return len(tensors) - 1
    old = tensors[index].buffer
    tensors[index] = tensor
    if all(other.buffer != old for other in tensors):
        graph.buffers[old].data = None
    return index


def _buffer(graph: Any, content: np.ndarray) -> int:
    from ai_edge_litert import schema_py_generated as schema

    made = schema.BufferT()
    made.data = content
    graph.buffers.append(made)
    return len(graph.buffers) - 1
