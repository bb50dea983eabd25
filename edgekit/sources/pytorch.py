"""A PyTorch state dict plus the function that makes its architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core import digest
from edgekit.core.errors import SourceError
from edgekit.core.factories import reference_digest
from edgekit.core.modules import save_module
from edgekit.core.plugin import Source
from edgekit.core.weights import load_into, make_module

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.plugin import Context

SUFFIXES = (".pth", ".pt", ".th", ".bin", ".ckpt", ".safetensors")


class PyTorch(Source):
    """Load weights into the module that a factory makes."""

    requires = {"torch": "torch", "safetensors": "safetensors"}

    path: Path = Field(description="State dict: .pth, .pt, .th, .bin, .ckpt or .safetensors.")
    arch: str = Field(description="file.py:factory or package.module:factory; makes the module.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for the factory.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether the suffix is one of a state dict's."""
        return Path(path).suffix in SUFFIXES

    def fingerprint(self) -> dict[str, str]:
        """Digests of the weights and of the architecture's file."""
        if not self.path.is_file():
            raise SourceError(f"{self.path}: no such file", hint="give the path of a state dict")
        return {"weights": digest.of_file(self.path), "arch": reference_digest(self.arch)}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Load, check and save the weights.

        Raises:
            SourceError: unreadable or truncated file, code in the pickle, keys or shapes that don't fit, NaN or infinite weights.
        """
        module = make_module(self.arch, self.arguments)
        notes = load_into(module, self.path)
        description = {"arch": self.arch, "arguments": self.arguments, "code": reference_digest(self.arch)}
        return save_module(module, out, source="pytorch", description=description, notes=notes)

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Make the module anew from its factory."""
        return make_module(checkpoint.description["arch"], checkpoint.description["arguments"])
