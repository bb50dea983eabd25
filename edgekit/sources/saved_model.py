"""A TensorFlow SavedModel, read by OpenVINO's own TensorFlow frontend; TensorFlow is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from edgekit.core import digest, openvino_ir
from edgekit.core.artifacts import Checkpoint
from edgekit.core.chatter import muted
from edgekit.core.errors import SourceError
from edgekit.core.plugin import Source
from edgekit.sources._graphs import no_module

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context

GRAPH = "saved_model.pb"


class SavedModel(Source):
    """Take a SavedModel folder; it becomes OpenVINO IR, which stands for the original from then on."""

    requires = {"openvino": "openvino"}
    reaches = ("openvino",)

    path: Path = Field(description="Folder with saved_model.pb.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether a folder holds ``saved_model.pb``."""
        return (Path(path) / GRAPH).is_file()

    def fingerprint(self) -> dict[str, str]:
        """Digest of the folder."""
        if not (self.path / GRAPH).is_file():
            raise SourceError(f"{self.path}: holds no {GRAPH}", hint="give the folder that tf.saved_model.save wrote")
        return {"folder": digest.of_tree(self.path)}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Read the model and save it as IR.

        Raises:
            SourceError: a damaged model, or one with operators that OpenVINO does not read; they are named.
        """
        with muted(native=True):
            try:
                model = openvino_ir.read(self.path)
            except RuntimeError as problem:
                raise SourceError(f"{self.path}: OpenVINO can't read it ({openvino_ir.complaint(problem)})", hint=_HINT) from problem
            model = openvino_ir.optimized(model)
            openvino_ir.save(model, out)
        note = "read from a TensorFlow SavedModel by OpenVINO; TensorFlow is not here to compare with"
        return Checkpoint.describe(out, "saved_model", "graph", {"format": "openvino", "file": openvino_ir.FILE}, notes=(note,))

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Refuse: a ready graph has no PyTorch module.

        Raises:
            SourceError: always.
        """
        raise no_module("a SavedModel")


_HINT = "convert it with TensorFlow to .tflite, or freeze the operator that is in the way"
