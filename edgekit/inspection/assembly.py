"""A model of several graphs, told as one: layers bear their graph's name in front, and numbers are sums."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.errors import SourceError
from edgekit.inspection.model import Inspection, TensorInfo, counted, precisions, total_macs
from edgekit.runner import RunnerError, assembly


def read(path: Path) -> Inspection:
    """Read the graphs that a ``model.json`` names.

    Multiplications are those of one run of every graph; how often each runs depends on what is asked of the model.

    Raises:
        SourceError: no model of several graphs, or a damaged graph.
    """
    from edgekit.inspection import inspect

    try:
        files = assembly.read(path)["components"]
    except RunnerError as problem:
        raise SourceError(f"{path}: is no model of several graphs ({problem.message})", hint="give the model.json of a run") from problem
    parts = {name: inspect(file) for name, file in files.items()}
    layers = [layer.model_copy(update={"name": f"{name}/{layer.name}"}) for name, part in parts.items() for layer in part.layers]
    first = next(iter(parts.values()))
    return Inspection(
        path=str(path),
        format=first.format,
        size=path.stat().st_size + sum(part.size for part in parts.values()),
        files=(path.name, *(f"{name}/{file}" for name, part in parts.items() for file in part.files)),
        parameters=sum(part.parameters for part in parts.values()),
        macs=total_macs(layers),
        opset=first.opset,
        producer=first.producer,
        inputs=_ends({name: part.inputs for name, part in parts.items()}),
        outputs=_ends({name: part.outputs for name, part in parts.items()}),
        operators=counted([layer.operator for layer in layers]),
        precisions=precisions(layers),
        quantization=next((part.quantization for part in parts.values() if part.quantization), None),
        layers=tuple(layers),
        notes=(
            f"{len(parts)} graphs that a program runs in turn; MACs are those of one run of each",
            *(f"{name}: {note}" for name, part in parts.items() for note in part.notes),
        ),
    )


def _ends(ends: dict[str, tuple[TensorInfo, ...]]) -> tuple[TensorInfo, ...]:
    return tuple(end.model_copy(update={"name": f"{name}/{end.name}"}) for name, found in ends.items() for end in found)
