"""A ready TFLite flatbuffer; OpenVINO reads it too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from edgekit.core import digest
from edgekit.core.artifacts import Checkpoint
from edgekit.core.errors import SourceError
from edgekit.core.plugin import Source
from edgekit.sources._graphs import checked, no_module

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context

FILE = "model.tflite"


class TfLite(Source):
    """Take a ``.tflite`` file as it is."""

    requires = {"ai_edge_litert": "ai-edge-litert"}
    reaches = ("tflite", "openvino")

    path: Path = Field(description="The .tflite file.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether the suffix is ``.tflite``."""
        return Path(path).suffix == ".tflite"

    def fingerprint(self) -> dict[str, str]:
        """Digest of the file."""
        if not self.path.is_file():
            raise SourceError(f"{self.path}: no such file", hint="give the path of a .tflite file")
        return {"flatbuffer": digest.of_file(self.path)}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Try the file out and copy it.

        Raises:
            SourceError: a damaged file, or an operator that LiteRT does not know.
        """
        checked(self.path, "litert", self.path)
        shutil.copyfile(self.path, out / FILE)
        return Checkpoint.describe(out, "tflite", "graph", {"format": "tflite", "file": FILE})

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Refuse: a ready graph has no PyTorch module.

        Raises:
            SourceError: always.
        """
        raise no_module("a TFLite graph")
