"""Measures in LiteRT how much noise each layer of a graph adds to the outputs when it alone is int8, and which to leave in float."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.core import tflite_model
from edgekit.core.chatter import muted
from edgekit.quantizers import _tflite
from edgekit.quantizers._sensitivity import FLOAT, Bench, Run, quiet_enough

if TYPE_CHECKING:
    import numpy as np

    from edgekit.core.artifacts import Artifact, Batch
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan, QuantizationSpec


def with_floats(plan: Sequence[LayerPlan], model: Artifact, spec: QuantizationSpec, wanted: float, context: Context) -> list[LayerPlan]:
    """Return the plan with the fewest further layers in float that let the outputs reach a signal-to-noise ratio.

    Args:
        plan: what would be quantized.
        model: the float flatbuffer.
        spec: calibration and granularity.
        wanted: ratio in dB that the outputs must have on calibration samples.
        context: holds them.

    Raises:
        QuantizationError: no calibration samples, or no layer can be int8 at that ratio.
    """
    graph = tflite_model.read(model.model)
    layers = tflite_model.layers(graph)
    integer = {layer.layer for layer in plan if layer.precision != FLOAT}
    weighted = {layer.name for layer in layers if layer.weighted}
    ranges = _tflite.tensor_ranges(model, spec, context)
    data = _tflite.calibration_set(context)
    bench = Bench(data, _runner(model, model.model.read_bytes()))

    def noise(names: set[str]) -> float:
        part = [layer for layer in plan if layer.layer in names]
        if not part:
            return 0.0
        with muted(native=True):
            made = tflite_model.to_bytes(_tflite.quantize(model, part, spec, dict(ranges)))
        return bench.noise(_runner(model, made))

    return quiet_enough(
        plan,
        [layer.layer for layer in plan if layer.layer in integer & weighted],
        wanted,
        context,
        alone=lambda layer: noise({layer}),
        together=lambda floats: noise(integer - set(floats) - stranded(graph, integer, floats)),
        along=lambda floats: dict.fromkeys(stranded(graph, integer, floats), "stands between layers in float"),
    )


def stranded(model: Any, integer: set[str], floats: Iterable[str]) -> set[str]:
    """Integer layers without weights that are left without any integer layer with weights around, if some layers become float.

    Args:
        model: object tree of the flatbuffer.
        integer: names of all layers that would be integer.
        floats: those among them that become float.
    """
    return _served(model, integer) - _served(model, integer - set(floats)) - set(floats)


def _served(model: Any, integer: set[str]) -> set[str]:
    """Integer layers that can be reached from integer layers with weights through integer layers only."""
    layers = [layer for layer in tflite_model.layers(model) if layer.name in integer]
    makers = {int(index): layer.name for layer in layers for index in layer.node.outputs}
    beside: dict[str, set[str]] = {layer.name: set() for layer in layers}
    for layer in layers:
        for index in layer.node.inputs:
            if int(index) in makers:
                beside[layer.name].add(makers[int(index)])
                beside[makers[int(index)]].add(layer.name)
    reached: set[str] = set()
    waiting = [layer.name for layer in layers if layer.weighted]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += beside[name]
    return reached


def _runner(model: Artifact, flatbuffer: bytes) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    with muted(native=True):
        interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
        interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run(sample: Batch) -> list[np.ndarray]:
        for spec, detail in zip(model.inputs, details, strict=True):
            interpreter.set_tensor(detail["index"], sample[spec.name].astype(detail["dtype"], copy=False))
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run
