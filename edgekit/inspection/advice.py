"""What an inspection suggests: how much memory the model will take, and where to start with compressing it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from edgekit.inspection.model import Advice, Inspection, elements

if TYPE_CHECKING:
    from edgekit.core.target import Target
    from edgekit.inspection.model import LayerInfo, Shape

_BYTES = {"int8": 1, "int4": 1, "fp16": 4, "bf16": 4, "fp64": 8}
"""Bytes of one activation, by the layer's precision; half precision is storage on most CPUs."""
READY = ("onnx", "openvino", "tflite")
HUGE = 1_000_000_000
"""Parameters beyond which weights are what counts."""


def memory(found: Inspection) -> int | None:
    """Estimate the bytes that weights and activations take at batch 1, without the runtime's own.

    Activations are taken to be the two largest outputs of neighbouring layers: a layer's output stands beside what it was made of.

    Returns:
        None for what is no graph, or where no shape is known.
    """
    if not any(layer.operator for layer in found.layers):
        return None
    sizes = []
    for layer in found.layers:
        count = elements(layer.shape) if layer.shape else None
        if count is not None:
            sizes.append(count * _BYTES.get(layer.precision.split(" ")[0], 4))
    if not sizes:
        return None
    return found.size + max((a + b for a, b in pairwise(sizes)), default=sizes[0])


def advise(found: Inspection, target: Target | None) -> Advice:
    """Recommend a preset, with the reason."""
    if found.quantization is not None:
        return Advice(preset="", reason="it is quantized already")
    tight = target is not None and target.memory_mb is not None and found.parameters > target.memory_mb << 19
    if found.format in READY:
        wish = "int4 weights" if tight or found.parameters > HUGE else "int8"
        return Advice(preset="", reason=f"a ready graph takes no passes: choose {wish} by 'precisions'")
    if tight or found.parameters > HUGE:
        return Advice(preset="small", reason="its weights are what fills the memory")
    if _depthwise(found):
        return Advice(preset="balanced", reason="depthwise convolutions lose most in int8; a short recovery helps")
    return Advice(preset="fast", reason="minutes, no training; 'balanced' if int8 loses too much")


def _depthwise(found: Inspection) -> bool:
    """Whether weights [C, 1, k, k] are among the tensors of a checkpoint, or a convolution of a program reads so few for its channels."""
    return any(_stored_depthwise(layer.shape or ()) if not layer.operator else _runs_depthwise(layer) for layer in found.layers)


def _stored_depthwise(shape: Shape) -> bool:
    return len(shape) == 4 and shape[1] == 1 and shape[0] != 1 and shape[2] == shape[3] != 1


def _runs_depthwise(layer: LayerInfo) -> bool:
    (channels, *_) = (*(layer.shape or ())[1:2], 0)
    if layer.operator != "aten.conv2d" or not isinstance(channels, int) or channels < 2:
        return False
    kernel, rest = divmod(layer.parameters, channels)
    return not rest and kernel in (9, 10, 25, 26)
