"""Int4 weights for ONNX: matrix products as ONNX Runtime's MatMulNBits, convolutions stored in 4 bits and widened as they run.

Activations stay in float. What the file holds are the points of the grid that :mod:`edgekit.algorithms.int4` finds, so weights that a
pass has put on such a grid are stored bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.algorithms.int4 import Grid, fits, pack, to_grid
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Quantizer
from edgekit.core.quantization import refuse_min_sqnr
from edgekit.quantizers import _onnx

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan

PRODUCTS, CONVOLUTIONS = ("MatMul", "Gemm"), ("Conv",)
GROUPS = (16, 32, 64, 128, 256)
"""Group sizes of MatMulNBits (onnxruntime/contrib_ops/cpu/quantization/matmul_nbits.cc)."""
INT4_OPSET = 21
"""ONNX opset from which DequantizeLinear reads 4-bit integers."""
STORED = "stored in 4 bits, one scale a channel; computed in float"


class OnnxInt4(Quantizer):
    """Store the constant weights of matrix products and convolutions in 4 bits; no calibration.

    Reference: Frantar et al. 2022, "GPTQ" (arXiv:2210.17323), for groups of weights that share a scale.
    """

    accepts = "onnx"
    precision = "int4"
    requires = {"onnx": "onnx", "onnxruntime": "onnxruntime"}
    packages = ("onnx", "onnxruntime")

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each node's precision.

        Raises:
            QuantizationError: a group size that ONNX Runtime lacks, an exclude pattern without a match, nothing to quantize, or
                ``min_sqnr`` is asked for.
        """
        refuse_min_sqnr(self.spec, "int4 for ONNX")
        if self.spec.group not in (None, *GROUPS):
            raise QuantizationError(
                f"ONNX Runtime has no groups of {self.spec.group} weights", hint=f"use one of: {', '.join(map(str, GROUPS))}"
            )
        graph = _onnx.load(model)
        constants = _constants(graph)
        reasons = {node.name: _reason(node, constants) for node in _onnx.named_nodes(graph)}
        plans = _onnx.layer_plan(model, (*PRODUCTS, *CONVOLUTIONS), self.precision, self.spec, floats={"Gather": "is looked up in float"})
        plans = [_settled(plan, reasons[plan.layer]) if plan.precision == self.precision else plan for plan in plans]
        if not any(plan.precision == self.precision for plan in plans):
            raise QuantizationError("no layer of this model has constant weights", hint="use a float precision")
        return plans

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the graph with 4-bit weights."""
        chosen = {layer.layer for layer in plan if layer.precision == self.precision}
        with _onnx.quiet():
            graph = _onnx.load(model)
            _onnx.named_nodes(graph)
            if any(layer.layer in chosen and layer.operator in CONVOLUTIONS for layer in plan):
                graph = _with_opset(graph, INT4_OPSET)
            self._rewrite(graph.graph, chosen)
            if any(node.domain == "com.microsoft" for node in graph.graph.node):
                _import_contrib(graph)
        return _onnx.write(graph, plan, model, out, self.precision)

    def _rewrite(self, graph: onnx.GraphProto, chosen: set[str]) -> None:
        """Replace the chosen nodes, in place, and drop weights that nothing reads any more."""
        from onnx import numpy_helper

        stored = {item.name: item for item in graph.initializer}
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            if node.name not in chosen:
                nodes.append(node)
                continue
            weights = numpy_helper.to_array(stored[node.input[1]])
            made, added = self._convolution(node, weights) if node.op_type in CONVOLUTIONS else self._product(node, weights)
            nodes += made
            graph.initializer.extend(added)
        read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
        kept = [item for item in graph.initializer if item.name in read]
        for field, values in ((graph.node, nodes), (graph.initializer, kept)):
            copies = [type(value).FromString(value.SerializeToString()) for value in values]
            del field[:]
            field.extend(copies)

    def _product(self, node: onnx.NodeProto, weights: np.ndarray) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        from onnx import helper

        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        matrix = weights if settings.get("transB") else weights.T
        channels, length = matrix.shape
        grid = to_grid(matrix, self.spec.group, symmetric=self.spec.symmetric, shared=self.spec.granularity == "tensor")
        block = self.spec.group or next((size for size in GROUPS if size >= length), GROUPS[-1])
        added = _blocks(grid.regrouped(block), node.name)
        bias = node.input[2] if len(node.input) > 2 else ""
        product = helper.make_node(
            "MatMulNBits",
            [node.input[0], *(item.name for item in added)],
            [f"{node.name}/product" if bias else node.output[0]],
            name=node.name,
            domain="com.microsoft",
            K=length,
            N=channels,
            bits=4,
            block_size=block,
        )
        if not bias:
            return [product], added
        return [product, helper.make_node("Add", [product.output[0], bias], node.output, name=f"{node.name}/bias")], added

    def _convolution(self, node: onnx.NodeProto, weights: np.ndarray) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        from onnx import TensorProto, helper, numpy_helper

        grid = to_grid(weights.reshape(len(weights), -1), symmetric=self.spec.symmetric, shared=self.spec.granularity == "tensor")
        kind = TensorProto.INT4 if grid.zero_points is None else TensorProto.UINT4
        added = [
            helper.make_tensor(f"{node.name}/int4", kind, weights.shape, pack(grid.integers.reshape(-1)).tobytes(), raw=True),
            numpy_helper.from_array(grid.scales[:, 0], f"{node.name}/scales"),
        ]
        if grid.zero_points is not None:
            points = grid.zero_points[:, 0]
            added.append(helper.make_tensor(f"{node.name}/zeros", kind, points.shape, pack(points).tobytes(), raw=True))
        wide = helper.make_node(
            "DequantizeLinear", [item.name for item in added], [f"{node.name}/weights"], name=f"{node.name}/widen", axis=0
        )
        same = type(node).FromString(node.SerializeToString())
        same.input[1] = wide.output[0]
        return [wide, same], added


def _blocks(grid: Grid, name: str) -> list[onnx.TensorProto]:
    """Integers, scales and zero points as MatMulNBits reads them: [N, blocks, bytes], [N, blocks], and two zero points a byte."""
    import numpy as np
    from onnx import numpy_helper

    channels, length = grid.integers.shape
    blocks = grid.scales.shape[1]
    middle = 8 if grid.zero_points is None else 0
    padded = np.zeros((channels, blocks * grid.group), np.uint8)
    padded[:, :length] = grid.integers + middle
    made = [
        numpy_helper.from_array(pack(padded.reshape(channels, blocks, grid.group)), f"{name}/int4"),
        numpy_helper.from_array(grid.scales, f"{name}/scales"),
    ]
    if grid.zero_points is not None:
        made.append(numpy_helper.from_array(pack(grid.zero_points), f"{name}/zeros"))
    return made


def _constants(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    from onnx import TensorProto, numpy_helper

    return {i.name: numpy_helper.to_array(i) for i in graph.graph.initializer if i.data_type == TensorProto.FLOAT}


def _reason(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> str:
    """Why a node can't have 4-bit weights; empty if it can."""
    from onnx import helper

    weights = constants.get(node.input[1]) if len(node.input) > 1 else None
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if weights is None:
        return "has no constant weights"
    factors = {settings.get(name, 1.0) for name in ("alpha", "beta")}
    if node.op_type in PRODUCTS and (weights.ndim != 2 or settings.get("transA") or factors != {1.0}):
        return "MatMulNBits multiplies by one matrix, not transposed, without a factor"
    return "" if fits(weights) else "its scales are beyond fp16"


def _settled(plan: LayerPlan, problem: str) -> LayerPlan:
    if problem:
        return plan.model_copy(update={"precision": "fp32", "reason": problem})
    return plan.model_copy(update={"reason": STORED}) if plan.operator in CONVOLUTIONS else plan


def _with_opset(graph: onnx.ModelProto, wanted: int) -> onnx.ModelProto:
    from onnx import version_converter

    used = next(o for o in graph.opset_import if o.domain in ("", "ai.onnx"))
    return graph if used.version >= wanted else version_converter.convert_version(graph, wanted)


def _import_contrib(graph: onnx.ModelProto) -> None:
    from onnx import helper

    if not any(o.domain == "com.microsoft" for o in graph.opset_import):
        graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
