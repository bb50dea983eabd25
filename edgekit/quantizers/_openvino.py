"""What the OpenVINO quantizers share: the plan of layers, calibrating in constant memory, writing a lean file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import openvino_ir
from edgekit.core.artifacts import Artifact
from edgekit.core.errors import QuantizationError
from edgekit.core.quantization import LayerPlan, QuantizationSpec, excluded

if TYPE_CHECKING:
    import numpy as np

    from edgekit.core.artifacts import Batch
    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Context

EXCLUDED = "excluded by the recipe"
PASSING = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "StridedSlice", "Pad", "MaxPool", "Concat", "Split", "VariadicSplit"}
)
"""Operators that pass int8 through, so that a quantizer before them serves what comes after."""


def layer_plan(graph: Any, quantized: set[str], precision: str, spec: QuantizationSpec, *, reason: str) -> list[LayerPlan]:
    """Decide for every layer: quantized if the library can, unless a pattern excludes it.

    Args:
        graph: the float ``openvino.Model``.
        quantized: layers that the library turns into the precision.
        precision: what those become.
        spec: whose ``exclude`` is honoured.
        reason: why a layer with weights that is not among them stays in float.
    """
    nodes = openvino_ir.layers(graph)
    kept = excluded([node.get_friendly_name() for node in nodes], spec.exclude)
    plans = []
    for node in nodes:
        name, kind = node.get_friendly_name(), node.get_type_name()
        if name in kept:
            plans.append(LayerPlan(layer=name, operator=kind, precision="fp32", reason=EXCLUDED))
        elif name in quantized:
            plans.append(LayerPlan(layer=name, operator=kind, precision=precision))
        elif openvino_ir.is_weighted(node):
            plans.append(LayerPlan(layer=name, operator=kind, precision="fp32", reason=reason))
    if not any(plan.precision == precision for plan in plans):
        raise QuantizationError(f"no layer of this model becomes {precision}", hint="use a float precision, or exclude fewer layers")
    return plans


def kept_in_float(plan: Sequence[LayerPlan], precision: str) -> list[str]:
    """Names of the layers that a plan keeps in float."""
    return [layer.layer for layer in plan if layer.precision != precision]


def calibration_set(context: Context) -> DataSet:
    """Return the calibration set.

    Raises:
        QuantizationError: the recipe names none.
    """
    if context.calibration is None:
        raise QuantizationError("static int8 needs calibration samples", hint="name a set with --data, or use int8-dynamic")
    return context.calibration


class Samples:
    """Calibration samples as NNCF reads them: again from the start for each of its steps, never all at once."""

    def __init__(self, context: Context, samples: int) -> None:
        self._data = calibration_set(context)
        self._progress = context.progress
        self._count = min(samples, len(self._data))

    def __len__(self) -> int:
        """Samples in a round."""
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        """Yield one sample at a time."""
        for done, (inputs, _) in enumerate(self._data.batches(1, limit=self._count), start=1):
            yield inputs
            self._progress.advance(done, self._count)


@contextlib.contextmanager
def running_statistics() -> Iterator[None]:
    """Let NNCF keep one running value where it would keep each sample's, or stack tensors of its own kind: less memory, less time."""
    import numpy as np
    from nncf.common.tensor_statistics import collectors
    from nncf.tensor import Tensor

    def add(self: Any, value: Tensor) -> None:
        axes = _axes(self)
        part = np.sum(value.data, axis=axes, keepdims=True, dtype=np.float64) if axes else value.data.astype(np.float64)
        total, count = self._container.pop() if self._container else (0.0, 0)
        self._container.append((total + part, count + value.data.size // part.size))

    def mean(self: Any) -> Tensor:
        total, count = self._container[0]
        return Tensor((total / count).astype(np.float32))

    def smallest(self: Any, value: Tensor) -> None:
        _merge(self, value, np.minimum)

    def largest(self: Any, value: Tensor) -> None:
        _merge(self, value, np.maximum)

    with contextlib.ExitStack() as stack:
        for kind, register, aggregate in (
            (collectors.MeanAggregator, add, mean),
            (collectors.MinAggregator, smallest, None),
            (collectors.MaxAggregator, largest, None),
        ):
            stack.callback(setattr, kind, "_register_reduced_input_impl", kind._register_reduced_input_impl)
            stack.callback(setattr, kind, "_aggregate_impl", kind._aggregate_impl)
            kind._register_reduced_input_impl = register
            kind._aggregate_impl = aggregate or kind._aggregate_impl
        yield


def _axes(aggregator: Any) -> tuple[int, ...]:
    """Axes of one sample's value that are aggregated; NNCF counts the samples as axis 0."""
    return tuple(axis - 1 for axis in aggregator._aggregation_axes if axis > 0)


def _merge(aggregator: Any, value: Any, merged: np.ufunc) -> None:
    from nncf.tensor import Tensor

    axes, data = _axes(aggregator), value.data
    part = data if all(data.shape[axis] == 1 for axis in axes) else merged.reduce(data, axis=axes, keepdims=True)
    if aggregator._container:
        kept = aggregator._container[0].data
        merged(kept, part, out=kept)
    else:
        aggregator._container.append(Tensor(part.copy()))


def write(graph: Any, names: set[str], plan: Sequence[LayerPlan], model: Artifact, out: Path, precision: str) -> Artifact:
    """Write a quantized model and the plan it follows.

    Args:
        graph: the quantized ``openvino.Model``.
        names: layer names of the float model.
        plan: what was decided.
        model: the float artefact.
        out: folder to write into.
        precision: what the artefact is called.
    """
    openvino_ir.tidy(graph, names)
    openvino_ir.save(graph, out)
    (out / "plan.json").write_text(json.dumps([p.model_dump() for p in plan], indent=1) + "\n", encoding="utf-8")
    return openvino_ir.describe(out, graph, precision, model.metadata)


def names_of(graph: Any) -> set[str]:
    """Names of all nodes."""
    return {node.get_friendly_name() for node in graph.get_ops()}
