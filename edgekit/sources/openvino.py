"""A ready OpenVINO IR."""

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

FILE = "model.xml"


class OpenVino(Source):
    """Take an IR as it is: an ``.xml`` file with its ``.bin`` beside it."""

    requires = {"openvino": "openvino"}
    reaches = ("openvino",)

    path: Path = Field(description="The .xml file; the weights lie beside it in a .bin of the same name.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether the suffix is ``.xml``."""
        return Path(path).suffix == ".xml"

    def fingerprint(self) -> dict[str, str]:
        """Digests of both files.

        Raises:
            SourceError: one of them is missing.
        """
        weights = self.path.with_suffix(".bin")
        for file in (self.path, weights):
            if not file.is_file():
                raise SourceError(f"{file}: no such file", hint="an OpenVINO model is an .xml and a .bin file of the same name")
        return {"graph": digest.of_file(self.path), "weights": digest.of_file(weights)}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Try the model out and copy both files.

        Raises:
            SourceError: damaged files, or an operator that OpenVINO does not know.
        """
        checked(self.path, "openvino", self.path)
        shutil.copyfile(self.path, out / FILE)
        shutil.copyfile(self.path.with_suffix(".bin"), (out / FILE).with_suffix(".bin"))
        return Checkpoint.describe(out, "openvino", "graph", {"format": "openvino", "file": FILE})

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Refuse: a ready graph has no PyTorch module.

        Raises:
            SourceError: always.
        """
        raise no_module("an OpenVINO graph")
