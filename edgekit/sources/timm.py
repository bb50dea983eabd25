"""A model of timm by its name, where timm is installed; edgekit does not depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.sources._zoo import Library

if TYPE_CHECKING:
    import torch


class Timm(Library):
    """Make the model with ``timm.create_model``: ``timm:mobilenetv3_small_100.lamb_in1k``, say."""

    library = "timm"
    requires = {"torch": "torch", "timm": "timm"}

    @staticmethod
    def make(name: str, arguments: dict[str, Any], *, pretrained: bool) -> torch.nn.Module:
        """Make a model, with the library's own weights if asked."""
        import timm

        module: torch.nn.Module = timm.create_model(name, pretrained=pretrained, **arguments)
        return module
