"""Measures in ONNX Runtime how much noise each layer of a graph adds to the outputs when it alone is int8, and which to leave in float."""

from __future__ import annotations

import copy
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.algorithms import sensitivity
from edgekit.core.errors import QuantizationError
from edgekit.quantizers import _onnx
from edgekit.quantizers._onnx_ranges import calibration_set, opened, tensor_ranges

if TYPE_CHECKING:
    import onnx

    from edgekit.core.artifacts import Artifact, Batch
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import Int8Scheme, LayerPlan, QuantizationSpec

COMPUTING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that are measured and that may stay in float."""
REMOVABLE = ("Relu", "Clip")
"""Activations that the quantizer lets the range of the layer before them stand for."""
FLOAT = "fp32"
SAMPLES = 32
BYTES = 64_000_000
"""Samples and reference outputs held in memory at most."""


def quiet_enough(
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
        ranges = tensor_ranges(graph, kinds, spec, scheme, context)
        bench = _Bench(graph, Path(folder) / "model.onnx", context)

        def noise(*, only: Sequence[str] = (), floats: Sequence[str] = ()) -> float:
            return bench.noise(_onnx.with_pairs(copy.deepcopy(graph), ranges, kinds, spec, scheme, only=only, kept=[*kept, *floats]))

        followers = _followers(graph)
        noises = {}
        for done, layer in enumerate(candidates, start=1):
            noises[layer] = noise(only=[layer, *followers.get(layer, ())])
            context.progress.advance(done, len(candidates))
        chosen, reached = sensitivity.settled(noises, wanted, lambda floats: sensitivity.decibels(noise(floats=floats)))
    if reached < wanted or (candidates and len(chosen) == len(candidates)):
        ceiling = sensitivity.decibels(min(noises.values(), default=math.inf))
        raise QuantizationError(
            f"outputs at {wanted:g} dB leave no layer in int8", hint=f"ask for less: the quietest layer reaches {ceiling:.0f} dB alone"
        )
    context.progress.note(
        f"{len(chosen)} of {len(candidates)} layers stay in float; outputs then at {reached:.1f} dB on calibration samples"
    )
    after = {name: layer for layer in chosen for name in followers.get(layer, ())}
    return [_explained(layer, noises, chosen, after, wanted) for layer in plan]


def _explained(layer: LayerPlan, noises: Mapping[str, float], chosen: Sequence[str], after: Mapping[str, str], wanted: float) -> LayerPlan:
    if layer.layer in after and layer.precision != FLOAT:
        return layer.model_copy(update={"precision": FLOAT, "reason": f"follows {after[layer.layer]}"})
    if layer.layer not in noises:
        return layer
    alone = f"{sensitivity.decibels(noises[layer.layer]):.1f} dB alone"
    if layer.layer not in chosen:
        return layer.model_copy(update={"reason": alone})
    return layer.model_copy(update={"precision": FLOAT, "reason": f"{alone}; kept in float to reach {wanted:g} dB"})


def _followers(graph: onnx.ModelProto) -> dict[str, list[str]]:
    """Removable activations by the layer that they alone follow."""
    readers = Counter(name for node in graph.graph.node for name in node.input)
    readers.update(value.name for value in graph.graph.output)
    makers = {node.output[0]: node.name for node in graph.graph.node if node.op_type in COMPUTING}
    return {
        makers[node.input[0]]: [node.name]
        for node in graph.graph.node
        if node.op_type in REMOVABLE and node.input[0] in makers and readers[node.input[0]] == 1
    }


class _Bench:
    """Calibration samples with the float graph's outputs, against which quantized graphs are compared."""

    def __init__(self, graph: onnx.ModelProto, file: Path, context: Context) -> None:
        self._file = file
        self._samples: list[tuple[Batch, list[Any]]] = []
        session = opened(graph, self._file)
        size = 0
        for sample, _ in calibration_set(context).batches(1, limit=SAMPLES):
            outputs = session.run(None, sample)
            size += sum(array.nbytes for array in (*sample.values(), *outputs))
            self._samples.append((sample, outputs))
            if size > BYTES:
                break

    def noise(self, graph: onnx.ModelProto) -> float:
        """Noise power of a graph's outputs relative to the signal's."""
        session = opened(graph, self._file)
        noise = sensitivity.Noise()
        for sample, expected in self._samples:
            found = session.run(None, sample)
            floats = [index for index, array in enumerate(expected) if array.dtype.kind == "f"]
            noise.add([expected[index] for index in floats], [found[index] for index in floats])
        return noise.power
