"""What the sources of model libraries share: a model by its name, with weights of the user's or of the library's own."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from edgekit.core import digest
from edgekit.core.errors import SourceError
from edgekit.core.factories import RAISED, described
from edgekit.core.modules import save_module
from edgekit.core.plugin import Source
from edgekit.core.store import package_version
from edgekit.core.weights import check_finite, load_into

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.plugin import Context


class Library(Source):
    """A library that makes models by name; a path names one as ``LIBRARY:NAME``."""

    library: ClassVar[str]
    """The library's name, also this source's."""

    path: str = Field(description="LIBRARY:NAME of the model.")
    weights: Path | None = Field(None, description="State dict of that model; the library fetches its own where left out.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Further keyword arguments for the model.")

    @staticmethod
    @abstractmethod
    def make(name: str, arguments: dict[str, Any], *, pretrained: bool) -> torch.nn.Module:
        """Make a model, with the library's own weights if asked."""

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether a name begins with the library's."""
        return path.startswith(f"{cls.library}:")

    def fingerprint(self) -> dict[str, str]:
        """Version of the library, and the digest of the weights where a file is named.

        Raises:
            SourceError: no such file.
        """
        if self.weights is None:
            return {"library": package_version(self.library)}
        if not self.weights.is_file():
            raise SourceError(f"{self.weights}: no such file", hint="give the path of a state dict")
        return {"library": package_version(self.library), "weights": digest.of_file(self.weights)}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Make the model, load its weights and save them.

        Raises:
            SourceError: no such model, weights that can't be had or don't fit, NaN or infinite weights.
        """
        name = self.path.removeprefix(f"{self.library}:")
        try:
            module = self.make(name, self.arguments, pretrained=self.weights is None)
        except RAISED as problem:
            hint = "check the name; without a network, name a state dict: 'weights: FILE'"
            raise SourceError(f"{name}: can't be made ({described(problem)})", hint=hint) from problem
        notes = load_into(module, self.weights) if self.weights else ["weights of the library's own"]
        check_finite(module, self.path)
        description = {"name": name, "arguments": self.arguments, "version": package_version(self.library)}
        return save_module(module.eval(), out, source=self.library, description=description, notes=notes)

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Make the model anew, without weights."""
        return cls.make(checkpoint.description["name"], checkpoint.description["arguments"], pretrained=False)
