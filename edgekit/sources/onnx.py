"""A ready ONNX graph; PyTorch is not needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from edgekit.core import digest
from edgekit.core.artifacts import Checkpoint
from edgekit.core.errors import SourceError
from edgekit.core.plugin import Source

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


class Onnx(Source):
    """Take an ``.onnx`` file as it is."""

    requires = {"onnx": "onnx"}

    path: Path = Field(description="The .onnx file; external data lies beside it.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether the suffix is ``.onnx``."""
        return Path(path).suffix == ".onnx"

    def fingerprint(self) -> dict[str, str]:
        """Digests of the graph and of its external data."""
        names = [self.path, *(self.path.parent / name for name in external_files(self.path))]
        return {path.name: digest.of_file(path) for path in names}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Check the graph and copy it with its external data.

        Raises:
            SourceError: damaged file, or a graph that breaks the ONNX specification.
        """
        import onnx

        external = external_files(self.path)
        try:
            onnx.checker.check_model(str(self.path), full_check=False)
        except (onnx.checker.ValidationError, ValueError, RuntimeError) as problem:
            raise SourceError(f"{self.path}: is no valid ONNX model ({str(problem).splitlines()[0][:160]})", hint=_HINT) from problem
        shutil.copyfile(self.path, out / "model.onnx")
        for name in external:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path.parent / name, out / name)
        return Checkpoint.describe(out, "onnx", "graph", {"format": "onnx", "file": "model.onnx"})

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Refuse: a ready graph has no PyTorch module.

        Raises:
            SourceError: always.
        """
        raise SourceError("an ONNX graph has no PyTorch module", hint="start from the PyTorch checkpoint for passes and TFLite")


_HINT = "export it again, or compare its checksum with the original"


def external_files(path: Path) -> list[str]:
    """Names of the external-data files of a model, relative to it.

    Raises:
        SourceError: unreadable file, or external data that is missing or outside the model's folder.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}", hint="give the path of an .onnx file") from problem
    except (DecodeError, ValueError) as problem:
        raise SourceError(f"{path}: is damaged or no ONNX model", hint=_HINT) from problem
    if not model.graph.node:
        raise SourceError(f"{path}: holds no graph", hint=_HINT)
    names = sorted({ExternalDataInfo(t).location for t in model.graph.initializer if uses_external_data(t)})
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise SourceError(f"{path}: refers to external data outside its folder ({name})", hint="keep external data beside the model")
        if not (path.parent / name).is_file():
            raise SourceError(f"{path}: its external data {name} is missing", hint=f"put {name} beside the model")
    return names
