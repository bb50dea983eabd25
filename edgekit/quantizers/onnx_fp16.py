"""Half precision for ONNX graphs: half the size; faster where the target computes in fp16, slower where it must convert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.plugin import Quantizer
from edgekit.core.quantization import refuse_min_sqnr
from edgekit.quantizers import _onnx

if TYPE_CHECKING:
    import onnx

    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan


class OnnxFp16(Quantizer):
    """Store weights and compute in fp16; inputs and outputs stay float32."""

    accepts = "onnx"
    precision = "fp16"
    requires = {"onnx": "onnx", "onnxruntime": "onnxruntime"}
    packages = ("onnx", "onnxruntime")

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each node's precision.

        Raises:
            QuantizationError: an exclude pattern matches no node, or ``min_sqnr`` is asked for.
        """
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

        refuse_min_sqnr(self.spec, "fp16 for ONNX")
        blocked = dict.fromkeys(DEFAULT_OP_BLOCK_LIST, "the operator has no fp16 kernel")
        nodes = _onnx.named_nodes(_onnx.load(model))
        kinds = sorted({node.op_type for node in nodes} - blocked.keys())
        plan = _onnx.layer_plan(model, kinds, self.precision, self.spec, floats=blocked)
        kept = {"precision": "fp32", "reason": "ONNX Runtime crashes where it fuses such an fp16 transpose with a matrix product"}
        turning = _turning_batches(nodes)
        return [row.model_copy(update=kept) if row.layer in turning and row.precision != "fp32" else row for row in plan]

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the graph in half precision."""
        from onnxruntime.transformers.float16 import convert_float_to_float16

        with _onnx.quiet():
            graph = _onnx.load(model)
            _onnx.named_nodes(graph)
            kept = [layer.layer for layer in plan if layer.precision != self.precision]
            half = convert_float_to_float16(graph, keep_io_types=True, node_block_list=kept, disable_shape_infer=False)
            _drop_twins(half)
        return _onnx.write(half, plan, model, out, self.precision)


def _turning_batches(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Names of the transposes that move the first of three or more axes for a matrix product, as recurrent layers do.

    See https://github.com/microsoft/onnxruntime/issues/28392.
    """
    multiplied = {name for node in nodes if node.op_type == "MatMul" for name in node.input}
    transposes = [node for node in nodes if node.op_type == "Transpose" and node.output[0] in multiplied]
    return {node.name for node in transposes for a in node.attribute if a.name == "perm" and len(a.ints) > 2 and a.ints[0] != 0}


def _drop_twins(graph: onnx.ModelProto) -> None:
    """Keep one of equal casts: the converter makes one for each layer in float that reads a value, all under one name."""
    kept = {(node.output[0] if node.op_type == "Cast" else index): node for index, node in enumerate(graph.graph.node)}
    nodes = list(kept.values())
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
