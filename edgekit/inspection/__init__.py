"""Looks into a model file without running anything: size, layers, precision, and what a target makes of it.

Nothing that a file says is executed or trusted: pickles are read as tensors only, offsets are checked, and large external data stays
on the disk.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import SourceError
from edgekit.inspection.model import Advice, BackendFit, Concern, Inspection, LayerInfo, Quantization, TargetFit, TensorInfo

if TYPE_CHECKING:
    from edgekit.core.target import Target

__all__ = ["Advice", "BackendFit", "Concern", "Inspection", "LayerInfo", "Quantization", "TargetFit", "TensorInfo", "inspect"]

READERS = {
    ".onnx": "onnx",
    ".tflite": "tflite",
    ".xml": "openvino",
    ".pt2": "pt2",
    ".json": "assembly",
    **dict.fromkeys((".safetensors", ".pth", ".pt", ".th", ".ckpt", ".bin"), "weights"),
}
"""Module of this package that reads files of a suffix."""


def inspect(path: Path, *, target: Target | None = None) -> Inspection:
    """Describe a model file or a checkpoint folder.

    Args:
        path: ``.onnx``, ``.tflite``, OpenVINO ``.xml``, ``.pt2``, the ``model.json`` of several graphs, a state dict, a SavedModel or
            ``save_pretrained`` folder, or one that a stage made.
        target: also say what this target can't run or would run in float.

    Raises:
        SourceError: no such file, not a known kind, truncated or corrupt.
    """
    from edgekit.inspection.advice import advise, memory
    from edgekit.inspection.fit import fit

    found = _read(path)
    found = found.model_copy(update={"memory": memory(found)})
    found = found.model_copy(update={"advice": advise(found, target)})
    return found if target is None else found.model_copy(update={"fit": fit(found, target)})


def _read(path: Path) -> Inspection:
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise SourceError(f"{path}: no such file", hint="give a model file or a checkpoint folder")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SourceError(f"{path}: edgekit does not know this kind of file", hint=f"it reads {', '.join(READERS)} and checkpoint folders")
    companion = path.with_suffix(".xml")
    if path.suffix == ".bin" and companion.exists():
        raise SourceError(f"{path}: is the weights of an OpenVINO model", hint=f"inspect {companion}")
    if not path.stat().st_size:
        raise SourceError(f"{path}: is empty", hint="fetch or make it again")
    found: Inspection = importlib.import_module(f"edgekit.inspection.{reader}").read(path)
    return found


def _read_folder(path: Path) -> Inspection:
    from edgekit.core.artifacts import ARTIFACT, DESCRIPTION, Artifact, Checkpoint
    from edgekit.inspection import saved_model, weights

    try:
        if (path / ARTIFACT).is_file():
            return _read(Artifact.load(path).model)
        if (path / DESCRIPTION).is_file() and Checkpoint.load(path).weights.is_file():
            return _read(Checkpoint.load(path).weights)
    except (KeyError, TypeError) as problem:
        raise SourceError(f"{path}: its description is damaged ({problem})", hint="inspect the model file in it") from problem
    if (path / saved_model.GRAPH).is_file():
        return saved_model.read(path)
    if (path / "config.json").is_file():
        return weights.read_folder(path)
    near = (*path.glob("*"), *path.glob("*/*"), *path.glob("*/*/*"))
    models = sorted(str(p.relative_to(path)) for p in near if p.suffix in READERS)[:5]
    hint = f"inspect one of: {', '.join(models)}" if models else "give a model file, or a folder with config.json and weights"
    raise SourceError(f"{path}: is no checkpoint folder", hint=hint)
