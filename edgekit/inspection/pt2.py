"""Exported programs (``.pt2``), read as JSON: ATen operators, shapes and weights; nothing is unpickled, no weight is read.

Reference: torch/_export/serde/schema.py; ATen's native_functions.yaml for the operators.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import SourceError
from edgekit.inspection.model import Inspection, LayerInfo, TensorInfo, counted, elements, precisions, total_macs
from edgekit.runner.runtimes._pt2 import NAMES, Archive, parsed, specs

if TYPE_CHECKING:
    from edgekit.inspection.model import Shape

_FLOATS = {6: "fp16", 7: "fp32", 8: "fp64", 13: "bf16"}
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "convolution")
_PRODUCTS = {"linear": 0, "matmul": 0, "mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""Matrix products, with the place of the left factor."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_COMPUTING = {*_CONVOLUTIONS, *_PRODUCTS, "embedding", "scaled_dot_product_attention", "lstm", "gru"}


def read(path: Path) -> Inspection:
    """Describe an exported program.

    Raises:
        SourceError: truncated, damaged, or of another schema.
    """
    try:
        with zipfile.ZipFile(path) as file:
            archive = Archive(file)
            content = archive.json("models/model.json")
            names = archive.json(f"extra/{NAMES}") if archive.has(f"extra/{NAMES}") else {}
        program = parsed(content)
        inputs = specs(program.given, program.values, names.get("inputs"))
        outputs = specs(program.taken, program.values, names.get("outputs"))
        stored = {name for name, _, _ in program.stored}
        shapes = {name: _shape(meta) for name, meta in program.values.items()}
        layers = [_layer(node, stored, shapes, program.values) for node in program.nodes]
        weights = {place: _count(shapes[name]) for name, folder, place in program.stored if folder == "weights"}
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}", hint="give a file that you may read") from problem
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, IndexError) as problem:
        said = f"{type(problem).__name__} {problem}" if isinstance(problem, KeyError) else str(problem)
        raise SourceError(f"{path}: is truncated or no exported program ({said})", hint="save it again with torch.export.save") from problem
    return Inspection(
        path=str(path),
        format="torch",
        size=path.stat().st_size,
        files=(path.name,),
        parameters=sum(count for place, count in weights.items() if not place.endswith(_STATISTICS)),
        macs=total_macs(layers),
        producer=f"torch {content.get('torch_version', '')}".strip(),
        inputs=tuple(TensorInfo(name=s.name, dtype=s.dtype, shape=s.shape) for s in inputs),
        outputs=tuple(TensorInfo(name=s.name, dtype=s.dtype, shape=s.shape) for s in outputs),
        operators=counted([layer.operator for layer in layers]),
        precisions=precisions(layers),
        layers=tuple(layers),
    )


def _layer(node: dict[str, Any], stored: set[str], shapes: dict[str, Shape], values: dict[str, Any]) -> LayerInfo:
    operator = node["target"].removeprefix("torch.ops.").rpartition(".")[0] or node["target"]
    kind = operator.removeprefix("aten.")
    taken = [argument["as_tensor"]["name"] for entry in node["inputs"] if "as_tensor" in (argument := entry["arg"])]
    (made, *_) = [o["as_tensor"]["name"] for o in node["outputs"] if "as_tensor" in o] or [""]
    module = next((key.split(",")[1] for key in str(node["metadata"].get("nn_module_stack", "")).split(";")[-1:] if key.count(",") > 1), "")
    return LayerInfo(
        name=module or made or operator,
        operator=operator,
        shape=shapes.get(made),
        parameters=sum(_count(shapes[name]) for name in taken if name in stored),
        macs=_macs(kind, taken, shapes, made) if kind in _COMPUTING else None,
        precision=_FLOATS.get(values[made]["dtype"], "") if made else "",
        computes=kind in _COMPUTING,
    )


def _macs(kind: str, taken: list[str], shapes: dict[str, Shape], made: str) -> int | None:
    size = elements(shapes.get(made))
    if kind == "embedding":
        return 0
    if size is None:
        return None
    if kind in _CONVOLUTIONS:
        weight = [n for n in shapes[taken[1]] if isinstance(n, int)]
        return size * math.prod(weight[1:])
    if kind == "scaled_dot_product_attention":
        (keys, depth) = shapes[taken[1]][-2:]
        known = isinstance(keys, int) and isinstance(depth, int)
        return size // int(depth) * int(keys) * 2 * int(depth) if known else None
    if kind in _PRODUCTS:
        depth = shapes[taken[_PRODUCTS[kind]]][-1]
        return size * depth if isinstance(depth, int) else None
    return None


def _count(shape: Shape) -> int:
    return math.prod(n for n in shape if isinstance(n, int))


def _shape(meta: dict[str, Any]) -> Shape:
    return tuple(size.get("as_int", "?") for size in meta["sizes"])
