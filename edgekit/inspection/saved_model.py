"""TensorFlow SavedModels, as OpenVINO reads them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import MissingPackageError, SourceError
from edgekit.inspection import openvino

if TYPE_CHECKING:
    from edgekit.inspection.model import Inspection

GRAPH = "saved_model.pb"


def read(path: Path) -> Inspection:
    """Describe a SavedModel folder.

    Raises:
        SourceError: damaged, or with operators that OpenVINO does not read; they are named.
        MissingPackageError: OpenVINO is not here.
    """
    try:
        from openvino import Core, save_model

        from edgekit.core import openvino_ir
    except ImportError as problem:
        raise MissingPackageError(f"openvino does not import ({problem})", hint="pip install openvino") from problem
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / openvino_ir.FILE
        try:
            save_model(Core().read_model(str(path)), str(file), compress_to_fp16=False)
        except RuntimeError as problem:
            said = openvino_ir.complaint(problem)
            raise SourceError(f"{path}: OpenVINO can't read it ({said})", hint="convert it to .tflite with TensorFlow") from problem
        found = openvino.read(file)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return found.model_copy(
        update={
            "path": str(path),
            "size": sum(file.stat().st_size for file in files),
            "files": tuple(file.relative_to(path).as_posix() for file in files),
            "notes": (*found.notes, "a TensorFlow SavedModel, shown as OpenVINO reads it"),
        }
    )
