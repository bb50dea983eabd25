"""What the ONNX quantizers share: reading layers, placing Q/DQ pairs, writing a lean file."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.artifacts import Artifact
from edgekit.core.errors import QuantizationError
from edgekit.core.quantization import LayerPlan, QuantizationSpec, excluded

if TYPE_CHECKING:
    import onnx

    from edgekit.core.quantization import Int8Scheme

QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulNBits")
"""Operators of graphs that are quantized."""
EXTERNAL_DATA_FROM = 1_900_000_000
"""Bytes beyond which weights lie beside the graph; a protobuf file ends at 2 GiB."""


def layer_plan(
    model: Artifact, kinds: Sequence[str], precision: str, spec: QuantizationSpec, *, floats: dict[str, str] | None = None
) -> list[LayerPlan]:
    """Decide for every node that computes: quantized if its operator is among ``kinds``, unless a pattern excludes it.

    Args:
        model: the float graph.
        kinds: operators that the quantizer turns into integers.
        precision: what those become.
        spec: whose ``exclude`` is honoured.
        floats: operators that stay in float for a reason worth telling.

    Raises:
        QuantizationError: the graph is quantized already, an exclude pattern matches no node, or nothing is left to quantize.
    """
    nodes = named_nodes(load(model))
    if any(node.op_type in QUANTIZED for node in nodes):
        raise QuantizationError("the graph is quantized already", hint="start from its float version")
    kept = excluded([node.name for node in nodes], spec.exclude)
    plans = []
    for node in nodes:
        if node.name in kept:
            plans.append(LayerPlan(layer=node.name, operator=node.op_type, precision="fp32", reason="excluded by the recipe"))
        elif node.op_type in kinds:
            plans.append(LayerPlan(layer=node.name, operator=node.op_type, precision=precision))
        elif floats and node.op_type in floats:
            plans.append(LayerPlan(layer=node.name, operator=node.op_type, precision="fp32", reason=floats[node.op_type]))
    if not any(plan.precision == precision for plan in plans):
        raise QuantizationError(
            f"no layer of this model becomes {precision}", hint=f"it has none of: {', '.join(kinds)}; use a float precision"
        )
    return plans


def load(model: Artifact) -> onnx.ModelProto:
    """Read a graph with its weights."""
    import onnx

    return onnx.load(model.model)


def named_nodes(graph: onnx.ModelProto) -> list[Any]:
    """Return the nodes of a graph; one without a name gets its operator and position."""
    for index, node in enumerate(graph.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{index}"
    return list(graph.graph.node)


def prepared(model: Artifact) -> onnx.ModelProto:
    """Return the graph with names, inferred shapes and an opset that has per-channel quantization."""
    import onnx
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    graph = load(model)
    named_nodes(graph)
    turn_constants(graph.graph)
    opset = next(o for o in graph.opset_import if o.domain in ("", "ai.onnx"))
    if opset.version < 13:
        graph = onnx.version_converter.convert_version(graph, 13)
    graph = onnx.shape_inference.infer_shapes(graph)
    add_pre_process_metadata(graph)
    return graph


def turn_constants(graph: onnx.GraphProto) -> None:
    """Store constants that are transposed before use the way they are used: their scales, one a channel, would not turn with them."""
    from onnx import helper, numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    for node in list(graph.node):
        if node.op_type == "Transpose" and node.input[0] in stored and node.output[0] not in outputs:
            axes = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "perm"), None)
            turned = numpy_helper.to_array(stored[node.input[0]]).transpose(axes)
            graph.initializer.append(numpy_helper.from_array(turned.copy(), node.output[0]))
            graph.node.remove(node)


def with_pairs(
    graph: onnx.ModelProto,
    ranges: Mapping[str, Any],
    kinds: Sequence[str],
    spec: QuantizationSpec,
    scheme: Int8Scheme,
    *,
    only: Sequence[str] = (),
    kept: Sequence[str] = (),
) -> onnx.ModelProto:
    """Put Q/DQ pairs around the layers of a prepared graph, in place, and return it.

    Args:
        graph: float graph, from :func:`prepared`.
        ranges: each tensor's range as ONNX Runtime's ``TensorData``.
        kinds: operators to quantize.
        spec: granularity of the weights.
        scheme: grid of activations, weights and biases.
        only: nodes to quantize; empty for all of those kinds.
        kept: nodes that stay in float.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    quantizer = QDQQuantizer(
        graph,
        per_channel=spec.granularity == "channel",
        reduce_range=scheme.reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if scheme.activations == "uint8" else QuantType.QInt8,
        tensors_range=dict(ranges),
        nodes_to_quantize=list(only),
        nodes_to_exclude=list(kept),
        op_types_to_quantize=list(kinds),
        extra_options={
            "ActivationSymmetric": scheme.symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": not scheme.symmetric,
        },
    )
    quantizer.quantize_model()
    return quantizer.model.model


def write(graph: onnx.ModelProto, plan: list[LayerPlan], model: Artifact, out: Path, precision: str) -> Artifact:
    """Write a quantized graph and the plan it follows, in execution order and without what a runtime works out by itself."""
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    if not _in_order(graph.graph):  # ONNX Runtime takes any order, the ONNX standard doesn't
        ONNXModel(graph).topological_sort()
    del graph.graph.value_info[:]
    del graph.metadata_props[:]
    external = graph.ByteSize() > EXTERNAL_DATA_FROM
    onnx.save(graph, out / "model.onnx", save_as_external_data=external, location="model.onnx.data")
    (out / "plan.json").write_text(json.dumps([p.model_dump() for p in plan], indent=1) + "\n", encoding="utf-8")
    return Artifact.describe(
        out, format="onnx", file="model.onnx", precision=precision, inputs=model.inputs, outputs=model.outputs, metadata=model.metadata
    )


def _in_order(graph: onnx.GraphProto) -> bool:
    """Whether every node reads only what is made before it."""
    made = {value.name for value in (*graph.input, *graph.initializer)} | {sparse.values.name for sparse in graph.sparse_initializer} | {""}
    for node in graph.node:
        if not made.issuperset(node.input):
            return False
        made.update(node.output)
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the quantizer's advice on stdout and the root logger, and its warnings, while it works."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
