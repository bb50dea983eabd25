"""A model of torchvision by its name, where torchvision is installed; edgekit does not depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.modules import save_module
from edgekit.core.plugin import Source
from edgekit.core.weights import check_finite
from edgekit.sources import _zoo

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.plugin import Context

PREFIX = "torchvision:"


class TorchVision(Source):
    """Make the model with ``torchvision.models.get_model``."""

    requires = {"torch": "torch", "torchvision": "torchvision"}

    path: str = Field(description="torchvision:NAME, such as torchvision:mobilenet_v3_small.")
    weights: Path | None = Field(None, description="State dict of that model; the library fetches its own where left out.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Further keyword arguments for the model.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether a name begins with ``torchvision:``."""
        return path.startswith(PREFIX)

    def fingerprint(self) -> dict[str, str]:
        """Version of the library, and the digest of the weights where a file is named."""
        return _zoo.fingerprint("torchvision", self.weights)

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Make the model, load its weights and save them.

        Raises:
            SourceError: no such model, weights that can't be had or don't fit, NaN or infinite weights.
        """
        name = self.path.removeprefix(PREFIX)
        module, notes = _zoo.made(_make, name, self.arguments, self.weights)
        check_finite(module, self.path)
        return save_module(module.eval(), out, source="torchvision", description={"name": name, "arguments": self.arguments}, notes=notes)

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Make the model anew, without weights."""
        return _make(checkpoint.description["name"], checkpoint.description["arguments"], pretrained=False)


def _make(name: str, arguments: dict[str, Any], *, pretrained: bool) -> torch.nn.Module:
    import torchvision.models

    module: torch.nn.Module = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None, **arguments)
    return module
