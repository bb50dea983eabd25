"""Finds the range of each tensor of an ONNX graph from calibration samples, a few of them in memory at a time."""

from __future__ import annotations

import copy
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.algorithms import activations
from edgekit.algorithms.ranges import INT8, INT8_SYMMETRIC, UINT8, Grid, Histogram, best_range, thinned
from edgekit.core.errors import QuantizationError
from edgekit.quantizers._onnx import EXTERNAL_DATA_FROM
from edgekit.quantizers._trained import first_sample, ranges_of, trained_for

if TYPE_CHECKING:
    import onnx

    from edgekit.algorithms.activations import Function
    from edgekit.core.artifacts import Artifact, Batch
    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import Int8Scheme, QuantizationSpec, TrainedRange

CHUNK = 16
"""Calibration samples whose smallest and largest values are in memory at a time."""
COUNTED = 1_000_000
"""Values of a tensor that a histogram counts at least, where there are so many; spread evenly over samples and axes."""


def tensor_ranges(
    model: Artifact, graph: onnx.ModelProto, kinds: Sequence[str], spec: QuantizationSpec, scheme: Int8Scheme, context: Context
) -> dict[str, Any]:
    """Return each tensor's range as ONNX Runtime's ``TensorData``: as it was trained, else as calibration samples have it.

    Args:
        model: where the graph comes from.
        graph: float graph with inferred shapes.
        kinds: operators whose inputs and outputs need ranges.
        spec: calibration method and sample count.
        scheme: grid of the activations.
        context: holds the calibration set.

    Raises:
        QuantizationError: the recipe names no calibration set, or trained ranges fit neither the recipe nor the graph.
    """
    from onnxruntime.quantization.calibrate import TensorData

    stand = trained_ranges(model, graph, kinds, spec, context)
    ranges = calibrated_ranges(graph, kinds, spec, scheme, context)
    return ranges | {name: TensorData(lowest=np.float32(r.low), highest=np.float32(r.high)) for name, r in stand.items()}


def calibrated_ranges(
    graph: onnx.ModelProto, kinds: Sequence[str], spec: QuantizationSpec, scheme: Int8Scheme, context: Context
) -> dict[str, Any]:
    """Run the calibration samples through the graph and return each tensor's range as ONNX Runtime's ``TensorData``.

    Raises:
        QuantizationError: the recipe names no calibration set.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        if spec.calibration == "mse":
            return _least_error(graph, kinds, spec, scheme, context, Path(folder))
        return _by_library(graph, kinds, spec, context, Path(folder))


def trained_ranges(
    model: Artifact, graph: onnx.ModelProto, kinds: Sequence[str], spec: QuantizationSpec, context: Context
) -> dict[str, TrainedRange]:
    """Return the ranges that were trained, by tensor.

    Raises:
        QuantizationError: they were trained for other weights than the recipe asks for, or for another graph.
    """
    trained = trained_for(model, spec)
    if trained is None:
        return {}
    names, inputs = float_tensors(graph, kinds), {value.name for value in graph.graph.input}
    inner, outputs = [name for name in names if name not in inputs], {value.name for value in graph.graph.output}
    sample = first_sample(context)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        session = opened(_with_outputs(graph, [name for name in inner if name not in outputs]), Path(folder) / "model.onnx")
        values = dict(zip(inner, session.run(inner, sample), strict=True))
    return ranges_of({**values, **{name: array for name, array in sample.items() if name in names}}, trained)


def calibration_set(context: Context) -> DataSet:
    """Return the calibration set.

    Raises:
        QuantizationError: the recipe names none.
    """
    if context.calibration is None:
        raise QuantizationError("static int8 needs calibration samples", hint="name a set with --data, or use int8-dynamic")
    return context.calibration


def save(graph: onnx.ModelProto, file: Path) -> bool:
    """Write a graph for a session to load; return whether its weights lie beside it."""
    import onnx

    external: bool = graph.ByteSize() > EXTERNAL_DATA_FROM
    onnx.save(copy.deepcopy(graph) if external else graph, file, save_as_external_data=external, location=f"{file.name}.data")
    return external


def opened(graph: onnx.ModelProto, file: Path, *, exact: bool = False) -> Any:
    """Write a graph and load it into ONNX Runtime; ``exact`` keeps int8 products from saturating, as they would before VNNI."""
    import onnxruntime

    save(graph, file)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # between calls NumPy works: waiting threads would disturb it
    options.add_session_config_entry("session.x64quantprecision", "1" if exact else "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _by_library(graph: onnx.ModelProto, kinds: Sequence[str], spec: QuantizationSpec, context: Context, folder: Path) -> dict[str, Any]:
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    options: dict[str, Any] = {"symmetric": False}
    if spec.calibration == "percentile":
        options["percentile"] = spec.percentile
    calibrator = create_calibrator(
        folder / "model.onnx",
        list(kinds),
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=methods[spec.calibration],
        use_external_data_format=save(graph, folder / "model.onnx"),
        extra_options=options,
    )
    at_once = CHUNK if spec.calibration == "minmax" else 1  # the others keep whole tensors
    for chunk in _chunks(context, spec.samples, at_once):
        calibrator.collect_data(_Reader(chunk))
    return dict(calibrator.compute_data().data)


def _least_error(
    graph: onnx.ModelProto, kinds: Sequence[str], spec: QuantizationSpec, scheme: Int8Scheme, context: Context, folder: Path
) -> dict[str, Any]:
    from onnxruntime.quantization.calibrate import TensorData

    wanted = float_tensors(graph, kinds)
    outputs = {value.name for value in graph.graph.output}
    inputs = {value.name for value in graph.graph.input}
    inner = [name for name in wanted if name not in inputs]
    histograms = {name: Histogram() for name in wanted}
    session = opened(_with_outputs(graph, [name for name in inner if name not in outputs]), folder / "augmented.onnx")
    limit = math.ceil(COUNTED / min(spec.samples, len(calibration_set(context))))
    for (sample,) in _chunks(context, spec.samples, 1):
        found = zip(inner, session.run(inner, sample), strict=True)
        for name, values in (*found, *((name, sample[name]) for name in wanted if name in inputs)):
            histograms[name].add(values, thinned(values, limit))
    functions = following_functions(graph)
    grid = grid_of(scheme)
    ranges = {
        name: (histogram.low, histogram.high) if name in outputs else best_range(histogram, grid, functions.get(name))
        for name, histogram in histograms.items()
    }
    return {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}


def grid_of(scheme: Int8Scheme) -> Grid:
    """The grid that ONNX Runtime's quantizer lays over a range."""
    if scheme.activations == "uint8":
        return Grid(UINT8.low, UINT8.high, scheme.symmetric)
    return INT8_SYMMETRIC if scheme.symmetric else INT8


def float_tensors(graph: onnx.ModelProto, kinds: Sequence[str]) -> list[str]:
    """Names of the float tensors that nodes of some kinds read or write, weights aside, in the order of the graph."""
    import onnx

    values = (*graph.graph.value_info, *graph.graph.output, *graph.graph.input)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    floats -= {weight.name for weight in graph.graph.initializer}
    nodes = [node for node in graph.graph.node if node.op_type in kinds]
    return list(dict.fromkeys(name for node in nodes for name in (*node.input, *node.output) if name in floats))


def following_functions(graph: onnx.ModelProto) -> dict[str, Function]:
    """Activation functions by the tensor that goes through them and nowhere else."""
    readers = Counter(name for node in graph.graph.node for name in node.input)
    readers.update(value.name for value in graph.graph.output)
    constants = _constants(graph)
    found = {node.input[0]: function_of(node, constants) for node in graph.graph.node if node.input and readers[node.input[0]] == 1}
    return {name: function for name, function in found.items() if function is not None}


def function_of(node: Any, constants: dict[str, float]) -> Function | None:
    """The activation function that a node computes, or None where it computes something else.

    Args:
        node: of an ONNX graph.
        constants: values of scalar initializers by name.
    """
    given = {a.name: a.f for a in node.attribute}
    if node.op_type == "Clip":
        ends = [*node.input[1:], "", ""][:2]
        if any(end and end not in constants for end in ends):
            return None
        return activations.clip(constants.get(ends[0], -math.inf), constants.get(ends[1], math.inf))
    made: dict[str, Function] = {
        "Relu": activations.clip(0, math.inf),
        "LeakyRelu": activations.leaky_relu(given.get("alpha", 0.01)),
        "Elu": activations.elu(given.get("alpha", 1.0)),
        "HardSigmoid": activations.hard_sigmoid(given.get("alpha", 0.2), given.get("beta", 0.5)),
        "HardSwish": activations.hard_swish,
        "Sigmoid": activations.sigmoid,
        "Tanh": activations.tanh,
        "Gelu": activations.gelu,
    }
    return made.get(node.op_type)


def _constants(graph: onnx.ModelProto) -> dict[str, float]:
    from onnx import numpy_helper

    tensors = {weight.name: weight for weight in graph.graph.initializer}
    tensors |= {node.output[0]: a.t for node in graph.graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"}
    return {name: float(numpy_helper.to_array(t).reshape(())) for name, t in tensors.items() if math.prod(t.dims) == 1 and t.data_type < 8}


def _with_outputs(graph: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    known = {value.name: value for value in graph.graph.value_info}
    made = copy.deepcopy(graph)
    made.graph.output.extend(known[name] for name in names)
    return made


class _Reader:
    """A few samples in the form that ONNX Runtime's calibrators read."""

    def __init__(self, batches: list[Batch]) -> None:
        self._rest = iter(batches)

    def get_next(self) -> Batch | None:
        """Return the next sample, or None after the last."""
        return next(self._rest, None)


def _chunks(context: Context, samples: int, size: int) -> Iterator[list[Batch]]:
    data = calibration_set(context)
    total = min(samples, len(data))
    chunk: list[Batch] = []
    for done, (inputs, _) in enumerate(data.batches(1, limit=samples), start=1):
        chunk.append(inputs)
        if len(chunk) == size or done == total:
            yield chunk
            context.progress.advance(done, total)
            chunk = []
    if chunk:
        yield chunk
