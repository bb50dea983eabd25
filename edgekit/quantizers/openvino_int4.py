"""Int4 weights for OpenVINO, written as NNCF writes them: the pattern that OpenVINO's kernels keep in 4 bits for matrix products.

Activations stay in float. NNCF's own choice of scales moves weights that a pass has put on a grid; what is stored here are the points
that :mod:`edgekit.algorithms.int4` finds, the same as in the other formats. Convolutions are widened when the model is compiled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.algorithms.int4 import Grid, fits, pack, to_grid
from edgekit.core import openvino_ir
from edgekit.core.chatter import muted
from edgekit.core.plugin import Quantizer
from edgekit.core.quantization import refuse_min_sqnr
from edgekit.quantizers import _openvino

if TYPE_CHECKING:
    import numpy as np

    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan

PRODUCT = "MatMul"
CHANNEL_AXES = {PRODUCT: 1, "Convolution": 1, "GroupConvolution": 2}
"""Operators whose weights are stored in 4 bits, with the number of leading axes that count output channels."""
WIDENED = "stored in 4 bits, one scale a channel; widened to float when compiled"
UNEVEN = "stored in 4 bits, the last group of a channel shorter; widened to float when compiled"


class OpenVinoInt4(Quantizer):
    """Store the constant weights of matrix products and convolutions in 4 bits; no calibration.

    Reference: Frantar et al. 2022, "GPTQ" (arXiv:2210.17323), for groups of weights that share a scale.
    """

    accepts = "openvino"
    precision = "int4"
    requires = {"openvino": "openvino"}
    packages = ("openvino",)

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each layer's precision.

        Raises:
            QuantizationError: a pattern matches no layer, there are no weights, or ``min_sqnr`` is asked for.
        """
        refuse_min_sqnr(self.spec, "int4 for OpenVINO")
        graph = openvino_ir.read(model.model)
        nodes = {node.get_friendly_name(): node for node in openvino_ir.layers(graph)}
        stored = {name for name, node in nodes.items() if _weights(node) is not None}
        reason = "its weights are looked up, computed, or beyond fp16"
        plans = _openvino.layer_plan(graph, stored, self.precision, self.spec, reason=reason)
        return [
            plan.model_copy(update={"reason": self._remark(nodes[plan.layer])}) if plan.precision == self.precision else plan
            for plan in plans
        ]

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the IR with 4-bit weights."""
        graph = openvino_ir.read(model.model)
        names = _openvino.names_of(graph)
        chosen = {layer.layer for layer in plan if layer.precision == self.precision}
        with muted():
            for node in graph.get_ordered_ops():
                if node.get_friendly_name() in chosen:
                    self._rewrite(node)
            graph.validate_nodes_and_infer_types()
            return _openvino.write(graph, names, plan, model, out, self.precision)

    def _rewrite(self, node: Any) -> None:
        """Let a node read its weights from 4 bits, with the output channels first."""
        weights = _weights(node)
        if weights is None:
            return
        product = node.get_type_name() == PRODUCT
        group = self.spec.group if product else None
        axes = CHANNEL_AXES[node.get_type_name()]
        matrix = weights.reshape(_size(weights.shape[:axes]), -1)
        grid = to_grid(matrix, group, symmetric=self.spec.symmetric, shared=self.spec.granularity == "tensor")
        node.input(1).replace_source_output(_decompressed(grid, weights.shape).output(0))
        if product:
            node.set_attribute("transpose_b", True)

    def _remark(self, node: Any) -> str:
        if node.get_type_name() != PRODUCT:
            return WIDENED
        weights = _weights(node)
        return UNEVEN if weights is not None and self.spec.group and weights.shape[1] % min(self.spec.group, weights.shape[1]) else ""


def _weights(node: Any) -> np.ndarray | None:
    """A layer's weights with the output channels first, or None where the file holds no such array or fp16 no such scales."""
    import numpy as np

    if node.get_type_name() not in CHANNEL_AXES:
        return None
    source = node.input_value(1).get_node()
    if source.get_type_name() != "Constant" or source.get_output_element_type(0).get_type_name() != "f32":
        return None
    weights = np.array(source.get_data(), np.float32)
    if node.get_type_name() == PRODUCT:
        if weights.ndim != 2:
            return None
        weights = weights if node.get_attributes()["transpose_b"] else np.ascontiguousarray(weights.T)
    return weights if fits(weights) else None


def _decompressed(grid: Grid, shape: tuple[int, ...]) -> Any:
    """Write ``(integers - zero points) * scales``, in half precision as NNCF does, and give it the weights' shape."""
    import numpy as np
    from openvino import opset13

    channels, length = grid.integers.shape
    groups = grid.scales.shape[1]
    padded = np.zeros((channels, groups * grid.group), np.int8)
    padded[:, :length] = grid.integers
    signed = grid.zero_points is None
    value = opset13.convert(_constant(padded.reshape(channels, groups, grid.group), signed=signed), "f16")
    if grid.zero_points is not None:
        points = opset13.convert(_constant(grid.zero_points[:, :, None], signed=False), "f16")
        value = opset13.subtract(value, points)
    value = opset13.multiply(value, opset13.constant(grid.scales[:, :, None].astype(np.float16)))
    if padded.shape[1] != length:
        value = opset13.reshape(value, opset13.constant(np.array(padded.shape)), False)
        value = opset13.slice(value, *(opset13.constant(np.array([number])) for number in (0, length, 1, 1)))
    value = opset13.reshape(value, opset13.constant(np.array(shape)), False)
    return opset13.convert(value, "f32")


def _constant(integers: np.ndarray, *, signed: bool) -> Any:
    import openvino

    tensor = openvino.Tensor(openvino.Type.i4 if signed else openvino.Type.u4, openvino.Shape(integers.shape))
    packed = pack(integers.reshape(-1))
    tensor.data[:] = packed.reshape(tensor.data.shape)
    return openvino.opset13.constant(tensor)


def _size(shape: tuple[int, ...]) -> int:
    import numpy as np

    return int(np.prod(shape))
