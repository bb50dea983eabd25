"""Measures in ONNX Runtime how much noise each layer of a graph adds to the outputs when it alone is int8, and which to leave in float."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.quantizers import _onnx
from edgekit.quantizers._onnx_ranges import calibration_set, opened, tensor_ranges
from edgekit.quantizers._sensitivity import FLOAT, Bench, Run, quiet_enough

if TYPE_CHECKING:
    import onnx

    from edgekit.core.artifacts import Artifact, Batch
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import Int8Scheme, LayerPlan, QuantizationSpec

COMPUTING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that are measured and that may stay in float."""
REMOVABLE = ("Relu", "Clip")
"""Activations that the quantizer lets the range of the layer before them stand for."""


def with_floats(
    plan: Sequence[LayerPlan], model: Artifact, spec: QuantizationSpec, scheme: Int8Scheme, wanted: float, context: Context
) -> list[LayerPlan]:
    """Return the plan with the fewest further layers in float that let the outputs reach a signal-to-noise ratio.

    Args:
        plan: what would be quantized.
        model: the float graph.
        spec: calibration and granularity.
        scheme: what the target's kernels expect.
        wanted: ratio in dB that the outputs must have on calibration samples.
        context: holds them.

    Raises:
        QuantizationError: no calibration samples, or no layer can be int8 at that ratio.
    """
    kinds = sorted({layer.operator for layer in plan})
    kept = [layer.layer for layer in plan if layer.precision == FLOAT]
    candidates = [layer.layer for layer in plan if layer.precision != FLOAT and layer.operator in COMPUTING]
    with _onnx.quiet(), tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        graph = _onnx.prepared(model)
        ranges = tensor_ranges(model, graph, kinds, spec, scheme, context)
        following = followers(graph)
        file = Path(folder) / "model.onnx"
        bench = Bench(calibration_set(context), _runner(graph, file))

        def noise(*, only: Sequence[str] = (), floats: Sequence[str] = ()) -> float:
            made = _onnx.with_pairs(copy.deepcopy(graph), ranges, kinds, spec, scheme, only=only, kept=[*kept, *floats])
            return bench.noise(_runner(made, file, exact=not scheme.reduce_range))

        return quiet_enough(
            plan,
            candidates,
            wanted,
            context,
            alone=lambda layer: noise(only=[layer, *following.get(layer, ())]),
            together=lambda floats: noise(floats=floats),
            along=lambda floats: {name: f"follows {layer}" for layer in floats for name in following.get(layer, ())},
        )


def followers(graph: onnx.ModelProto) -> dict[str, list[str]]:
    """Removable activations by the layer that they alone follow."""
    readers = Counter(name for node in graph.graph.node for name in node.input)
    readers.update(value.name for value in graph.graph.output)
    makers = {node.output[0]: node.name for node in graph.graph.node if node.op_type in COMPUTING}
    return {
        makers[node.input[0]]: [node.name]
        for node in graph.graph.node
        if node.op_type in REMOVABLE and node.input[0] in makers and readers[node.input[0]] == 1
    }


def _runner(graph: onnx.ModelProto, file: Path, *, exact: bool = False) -> Run:
    session = opened(graph, file, exact=exact)

    def run(sample: Batch) -> list[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, sample)
        return outputs

    return run
