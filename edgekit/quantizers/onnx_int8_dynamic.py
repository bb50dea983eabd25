"""Dynamic int8 for ONNX graphs: integer weights, activation ranges found anew at each inference; for transformers and recurrent nets."""

from __future__ import annotations

import tempfile
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

KINDS = ("MatMul", "Gemm", "Gather", "Attention", "EmbedLayerNormalization", "LSTM")


class OnnxInt8Dynamic(Quantizer):
    """Quantize the weights of matrix products and embeddings to 8 bits; no calibration.

    Convolutions stay in float: dynamic integer convolution is several times slower than float in ONNX Runtime.
    """

    accepts = "onnx"
    precision = "int8-dynamic"
    requires = {"onnx": "onnx", "onnxruntime": "onnxruntime"}
    packages = ("onnx", "onnxruntime")

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each node's precision.

        Raises:
            QuantizationError: an exclude pattern matches no node, nothing is left to quantize, or ``min_sqnr`` is asked for.
        """
        refuse_min_sqnr(self.spec, "dynamic int8 for ONNX")
        weights = {i.name for i in _onnx.load(model).graph.initializer}
        products = {n.name for n in _onnx.named_nodes(_onnx.load(model)) if any(i in weights for i in n.input)}
        slow = dict.fromkeys(("Conv", "ConvTranspose"), "dynamic integer convolution is slower than float")
        plans = _onnx.layer_plan(model, KINDS, self.precision, self.spec, floats=slow)
        return [
            p
            if p.layer in products or p.precision == "fp32"
            else p.model_copy(update={"precision": "fp32", "reason": "has no constant weights"})
            for p in plans
        ]

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the graph with integer weights."""
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        kinds = {layer.operator for layer in plan if layer.precision == self.precision}
        kinds |= {"MatMul"} if "Gemm" in kinds else set()
        kept = [layer.layer for layer in plan if layer.precision != self.precision]
        with _onnx.quiet(), tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            graph = _onnx.load(model)
            _onnx.named_nodes(graph)
            _split_products(graph.graph)
            del graph.graph.value_info[:]  # the exporter's shapes and ONNX Runtime's inferred ones disagree
            made = Path(folder) / "dynamic.onnx"
            quantize_dynamic(
                graph,
                made,
                op_types_to_quantize=sorted(kinds),
                per_channel=self.spec.granularity == "channel",
                reduce_range=context.scheme.reduce_range if context.scheme else False,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
                extra_options={"MatMulConstBOnly": True},
            )
            quantized = onnx.load(made)
        return _onnx.write(quantized, plan, model, out, self.precision)


def _split_products(graph: onnx.GraphProto) -> None:
    """Write each Gemm as a MatMul of its name and an Add, in place; the quantizer only knows MatMul.

    It would do the same, but under names that nobody excluded, and it would turn a matrix that two layers read twice.
    """
    from onnx import helper, numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type != "Gemm" or settings.get("transA") or {settings.get("alpha", 1.0), settings.get("beta", 1.0)} != {1.0}:
            nodes.append(node)
            continue
        given, matrix, bias = [*node.input, ""][:3]
        if settings.get("transB"):
            turned = f"{matrix}/turned"
            if matrix not in stored:
                nodes.append(helper.make_node("Transpose", [matrix], [f"{node.name}/turned"], name=f"{node.name}/turn"))
                turned = f"{node.name}/turned"
            elif turned not in stored:
                stored[turned] = numpy_helper.from_array(numpy_helper.to_array(stored[matrix]).T.copy(), turned)
                graph.initializer.append(stored[turned])
            matrix = turned
        product = f"{node.name}/product" if bias else node.output[0]
        nodes.append(helper.make_node("MatMul", [given, matrix], [product], name=node.name))
        if bias:
            nodes.append(helper.make_node("Add", [product, bias], node.output, name=f"{node.name}/bias"))
    del graph.node[:]
    graph.node.extend(nodes)
