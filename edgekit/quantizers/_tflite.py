"""What the TFLite quantizers share: the plan of layers, calibrating in constant memory, LiteRT's quantizer driven by the plan."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import tflite_model
from edgekit.core.artifacts import Artifact
from edgekit.core.chatter import innermost, muted
from edgekit.core.errors import QuantizationError
from edgekit.core.quantization import LayerPlan, QuantizationSpec, TrainedRange, excluded
from edgekit.quantizers._tflite_ranges import LeastError
from edgekit.quantizers._trained import first_sample, ranges_of, trained_for

if TYPE_CHECKING:
    import numpy as np

    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Context

EXCLUDED = "excluded by the recipe"
FLOAT = "fp32"
ALIASES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
"""Operators that the quantizer calls by another name than the schema."""
CHANNEL_SCALES_SINCE = {"FULLY_CONNECTED": 12, "EMBEDDING_LOOKUP": 4}
"""Version of an operator from which its kernel knows one scale a channel with float activations (tensorflow/lite/tools/versioning)."""


def layer_plan(layers: Sequence[tflite_model.Layer], precisions: dict[str, str], spec: QuantizationSpec, *, reason: str) -> list[LayerPlan]:
    """Decide for every layer: as wanted, unless a pattern excludes it.

    Args:
        layers: the graph's operators.
        precisions: what becomes of each layer that does not stay in float, by name.
        spec: whose ``exclude`` is honoured.
        reason: why a layer with weights that is not among them stays in float.
    """
    kept = excluded([layer.name for layer in layers], spec.exclude)
    plans = []
    for layer in layers:
        precision = FLOAT if layer.name in kept else precisions.get(layer.name, FLOAT)
        why = "" if precision != FLOAT else EXCLUDED if layer.name in kept else reason if layer.weighted else ""
        if precision != FLOAT or why:
            plans.append(LayerPlan(layer=layer.name, operator=layer.operator, precision=precision, reason=why))
    if all(plan.precision == FLOAT for plan in plans):
        raise QuantizationError("no layer of this model becomes smaller", hint="use a float precision, or exclude fewer layers")
    return plans


def supported(layers: Sequence[tflite_model.Layer], precision: str, granularity: str) -> set[str]:
    """Names of the layers that LiteRT's quantizer takes to a precision."""
    from ai_edge_quantizer import algorithm_manager

    found = set()
    for operator in {layer.operator for layer in layers}:
        algorithm, config = _settings(precision, granularity)
        try:
            algorithm_manager.check_op_quantization_config(algorithm, _key(operator), config)
        except (ValueError, KeyError):
            continue
        found.add(operator)
    return {layer.name for layer in layers if layer.operator in found}


def quantize(model: Artifact, plan: Sequence[LayerPlan], spec: QuantizationSpec, ranges: dict[str, Any] | None) -> Any:
    """Let LiteRT's quantizer do what the plan says; return the object tree of the new model.

    Raises:
        QuantizationError: the quantizer fails on the model.
    """
    from ai_edge_litert.tools import flatbuffer_utils
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(bytearray(model.model.read_bytes()))
    for layer in plan:
        if layer.precision != FLOAT:
            algorithm, config = _settings(layer.precision, spec.granularity)
            quantizer.update_quantization_recipe(f"^{re.escape(layer.layer)};?$", _key(layer.operator), config, algorithm)
    try:
        made = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError, KeyError, IndexError) as problem:
        raise QuantizationError(f"LiteRT's quantizer fails: {innermost(problem)}", hint="exclude the layer it names") from problem
    tree = flatbuffer_utils.read_model_from_bytearray(made.quantized_model)
    if spec.granularity == "channel" and any(layer.precision == "int8-dynamic" for layer in plan):
        _ask_for_newer_kernels(tree)
    return tree


def _ask_for_newer_kernels(model: Any) -> None:
    """Raise the versions of operators whose older kernels would read one scale where there is one a channel, and give nonsense.

    The quantizer leaves the versions as they were; with these an older interpreter refuses the file.
    """
    for code in model.operatorCodes:
        code.version = max(code.version, CHANNEL_SCALES_SINCE.get(tflite_model.code_name(code), 1))


def write(made: Any, plan: Sequence[LayerPlan], model: Artifact, out: Path, precision: str) -> Artifact:
    """Write a quantized model and the plan it follows, with short names for what the quantizer added."""
    source = tflite_model.read(model.model)
    names = {layer.name.encode() for layer in tflite_model.layers(source)}
    main = made.subgraphs[0]
    for side in ("inputs", "outputs"):
        for old, new in zip(getattr(source.subgraphs[0], side), getattr(main, side), strict=True):
            main.tensors[new].shapeSignature = source.subgraphs[0].tensors[old].shapeSignature
    for graph in made.subgraphs:
        ends = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if tensor.name not in names and index not in ends:
                tensor.name = f"t{index}".encode()
    tflite_model.write(made, out / tflite_model.FILE)
    (out / "plan.json").write_text(json.dumps([p.model_dump() for p in plan], indent=1) + "\n", encoding="utf-8")
    return tflite_model.describe(out, precision, model.metadata)


def at_odds(model: Any, layers: Sequence[tflite_model.Layer]) -> set[str]:
    """Names of layers that read a matrix which operators of another kind read too: its scales lie along one axis, theirs along others."""
    from ai_edge_litert import schema_py_generated as schema

    tensors = model.subgraphs[0].tensors
    readers: dict[int, list[tflite_model.Layer]] = {}
    for layer in layers:
        for index in layer.node.inputs:
            matrix = tensors[index].type == schema.TensorType.FLOAT32 and len(tensors[index].shape) > 1
            if matrix and tflite_model.constant(model, index) is not None:
                readers.setdefault(tensors[index].buffer, []).append(layer)
    return {layer.name for found in readers.values() if len({layer.operator for layer in found}) > 1 for layer in found}


def is_transformer(layers: Sequence[tflite_model.Layer]) -> bool:
    """Whether a graph multiplies activations with each other after a softmax and has more matrix products than convolutions."""
    kinds = [layer.operator for layer in layers]
    products = any(layer.operator == "BATCH_MATMUL" and not layer.weighted for layer in layers)
    return products and "SOFTMAX" in kinds and kinds.count("FULLY_CONNECTED") > sum("CONV" in kind for kind in kinds)


def calibration_set(context: Context) -> DataSet:
    """Return the calibration set.

    Raises:
        QuantizationError: the recipe names none.
    """
    if context.calibration is None:
        raise QuantizationError("static int8 needs calibration samples", hint="name a set with --data, or use int8-dynamic")
    return context.calibration


def tensor_ranges(model: Artifact, spec: QuantizationSpec, context: Context) -> dict[str, dict[str, np.ndarray]]:
    """Run the calibration samples through the float model, one at a time, and return each tensor's range.

    Raises:
        QuantizationError: the recipe names no calibration set.
    """
    import numpy as np

    data = calibration_set(context)
    total = min(spec.samples, len(data))
    observer: _MinMax | _Histograms | LeastError
    if spec.calibration == "minmax":
        observer = _MinMax()
    elif spec.calibration == "mse":
        observer = LeastError(model, total)
    else:
        observer = _Histograms(spec)
    with muted(native=True):
        interpreter = _Interpreter(model)
    for done, (inputs, _) in enumerate(data.batches(1, limit=spec.samples), start=1):
        observer.see(interpreter.run(inputs))
        context.progress.advance(done, total)
    ranges = observer.ranges() | {name: (found.low, found.high) for name, found in trained_ranges(model, spec, context).items()}
    widened = _widened(ranges).items()
    return {name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)} for name, (low, high) in widened}


def _widened(ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Give a tensor that was zero in every sample a range: a scale of zero has no integers, and biases are divided by it."""
    return {name: (low, high) if low or high else (0.0, 1.0) for name, (low, high) in ranges.items()}


def trained_ranges(model: Artifact, spec: QuantizationSpec, context: Context) -> dict[str, TrainedRange]:
    """Return the ranges that were trained, by tensor.

    Raises:
        QuantizationError: they were trained for other weights than the recipe asks for, or for another graph.
    """
    trained = trained_for(model, spec)
    if trained is None:
        return {}
    with muted(native=True):
        interpreter = _Interpreter(model)
    return ranges_of(interpreter.run(first_sample(context)), trained)


class _Interpreter:
    """The float model with all its intermediate values at hand."""

    def __init__(self, model: Artifact) -> None:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(model.model), num_threads=1, experimental_preserve_all_tensors=True)
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()
        self._inputs = list(
            zip((spec.name for spec in model.inputs), (d["index"] for d in details), (d["dtype"] for d in details), strict=True)
        )
        graph = tflite_model.read(model.model)
        stored = {i for i in range(len(graph.subgraphs[0].tensors)) if tflite_model.constant(graph, i) is not None}
        named = [(t["name"], t["index"]) for t in self._interpreter.get_tensor_details() if t["dtype"] == np.float32]
        self._watched = [(name, index) for name, index in named if index < len(graph.subgraphs[0].tensors) and index not in stored]

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the values of all float tensors, valid until the next call."""
        for name, index, dtype in self._inputs:
            self._interpreter.set_tensor(index, inputs[name].astype(dtype, copy=False))
        self._interpreter.invoke()
        return {name: _finite(self._interpreter.get_tensor(index)) for name, index in self._watched}


def _finite(array: np.ndarray) -> np.ndarray:
    """Bring infinities to the nearest finite value: max-pooling pads with minus infinity, which int8's smallest value does as well."""
    import numpy as np

    known = np.isfinite(array)
    return array if known.all() or not known.any() else np.clip(array, array[known].min(), array[known].max())


class _MinMax:
    """The smallest and largest value seen."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def see(self, values: dict[str, np.ndarray]) -> None:
        for name, array in values.items():
            low, high = self._seen.get(name, (float("inf"), float("-inf")))
            self._seen[name] = min(low, float(array.min())), max(high, float(array.max()))

    def ranges(self) -> dict[str, tuple[float, float]]:
        return self._seen


class _Histograms:
    """Running histograms, of which ONNX Runtime's calibration chooses the range: the same words mean the same in both formats."""

    def __init__(self, spec: QuantizationSpec) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        self._collector = HistogramCollector(
            method=spec.calibration, symmetric=False, num_bins=2048, num_quantized_bins=128, percentile=spec.percentile, scenario="same"
        )

    def see(self, values: dict[str, np.ndarray]) -> None:
        with muted():
            self._collector.collect({name: [array] for name, array in values.items()})

    def ranges(self) -> dict[str, tuple[float, float]]:
        with muted():
            found = self._collector.compute_collection_result()
        return {name: (float(low), float(high)) for name, (low, high, *_) in found.items()}


def _key(operator: str) -> Any:
    from ai_edge_quantizer.qtyping import TFLOperationName

    return TFLOperationName(ALIASES.get(operator, operator))


def _settings(precision: str, granularity: str) -> tuple[str, Any]:
    """Algorithm and configuration that stand for a precision."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    if precision == "fp16":
        half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
        )
        return AlgorithmName.FLOAT_CASTING, config
    scale = qtyping.QuantGranularity.CHANNELWISE if granularity == "channel" else qtyping.QuantGranularity.TENSORWISE
    activations = qtyping.TensorQuantizationConfig(num_bits=8, symmetric=False) if precision == "int8-static" else None
    return AlgorithmName.MIN_MAX_UNIFORM_QUANT, qtyping.OpQuantizationConfig(
        activation_tensor_config=activations,
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=8, symmetric=True, granularity=scale),
        compute_precision=qtyping.ComputePrecision.INTEGER,
        explicit_dequantize=False,
    )
