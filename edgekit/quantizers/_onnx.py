"""What the ONNX quantizers share: reading layers, calibrating in constant memory, writing a lean file."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.artifacts import Artifact
from edgekit.core.errors import QuantizationError
from edgekit.core.quantization import LayerPlan, QuantizationSpec, excluded

if TYPE_CHECKING:
    import onnx

    from edgekit.core.artifacts import Batch
    from edgekit.core.plugin import Context, DataSet

EXTERNAL_DATA_FROM = 1_900_000_000
"""Bytes beyond which weights lie beside the graph; a protobuf file ends at 2 GiB."""
CHUNK = 16
"""Calibration samples whose intermediate values are in memory at a time."""


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
    """
    nodes = named_nodes(load(model))
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
    opset = next(o for o in graph.opset_import if o.domain in ("", "ai.onnx"))
    if opset.version < 13:
        graph = onnx.version_converter.convert_version(graph, 13)
    graph = onnx.shape_inference.infer_shapes(graph)
    add_pre_process_metadata(graph)
    return graph


def tensor_ranges(graph: onnx.ModelProto, kinds: Sequence[str], spec: QuantizationSpec, context: Context, *, symmetric: bool) -> Any:
    """Run the calibration samples through the graph and return each tensor's range, holding a few samples at a time."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    options: dict[str, Any] = {"symmetric": symmetric}
    if spec.calibration == "percentile":
        options["percentile"] = spec.percentile
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        file = Path(folder) / "model.onnx"
        external = graph.ByteSize() > EXTERNAL_DATA_FROM
        onnx.save(copy.deepcopy(graph) if external else graph, file, save_as_external_data=external, location="weights")
        calibrator = create_calibrator(
            file,
            list(kinds),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=methods[spec.calibration],
            use_external_data_format=external,
            extra_options=options,
        )
        for chunk in _chunks(calibration_set(context), spec.samples, context):
            calibrator.collect_data(_Reader(chunk))
        return calibrator.compute_data()


def calibration_set(context: Context) -> DataSet:
    """Return the calibration set.

    Raises:
        QuantizationError: the recipe names none.
    """
    if context.calibration is None:
        raise QuantizationError("static int8 needs calibration samples", hint="name a set with --data, or use int8-dynamic")
    return context.calibration


class _Reader:
    """A few samples in the form that ONNX Runtime's calibrators read."""

    def __init__(self, batches: list[Batch]) -> None:
        self._rest = iter(batches)

    def get_next(self) -> Batch | None:
        """Return the next sample, or None after the last."""
        return next(self._rest, None)


def _chunks(data: DataSet, samples: int, context: Context) -> Iterator[list[Batch]]:
    total = min(samples, len(data))
    chunk: list[Batch] = []
    for done, (inputs, _) in enumerate(data.batches(1, limit=samples), start=1):
        chunk.append(inputs)
        if len(chunk) == CHUNK or done == total:
            yield chunk
            context.progress.advance(done, total)
            chunk = []
    if chunk:
        yield chunk


def write(graph: onnx.ModelProto, plan: list[LayerPlan], model: Artifact, out: Path, precision: str) -> Artifact:
    """Write a quantized graph and the plan it follows, without what a runtime works out by itself."""
    import onnx

    del graph.graph.value_info[:]
    del graph.metadata_props[:]
    external = graph.ByteSize() > EXTERNAL_DATA_FROM
    onnx.save(graph, out / "model.onnx", save_as_external_data=external, location="model.onnx.data")
    (out / "plan.json").write_text(json.dumps([p.model_dump() for p in plan], indent=1) + "\n", encoding="utf-8")
    return Artifact.describe(
        out, format="onnx", file="model.onnx", precision=precision, inputs=model.inputs, outputs=model.outputs, metadata=model.metadata
    )


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
