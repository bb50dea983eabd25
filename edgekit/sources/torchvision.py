"""A model of torchvision by its name, where torchvision is installed; edgekit does not depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.sources._zoo import Library

if TYPE_CHECKING:
    import torch


class TorchVision(Library):
    """Make the model with ``torchvision.models.get_model``: ``torchvision:mobilenet_v3_small``, say."""

    library = "torchvision"
    requires = {"torch": "torch", "torchvision": "torchvision"}

    @staticmethod
    def make(name: str, arguments: dict[str, Any], *, pretrained: bool) -> torch.nn.Module:
        """Make a model, with the library's own weights if asked."""
        import torchvision.models

        module: torch.nn.Module = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None, **arguments)
        return module
