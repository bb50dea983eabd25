"""Random changes of training pictures, drawn from PyTorch's generator, which the training loop seeds for each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.datasets import Boxes, Mask
from edgekit.core.errors import RecipeError
from edgekit.core.schema import Schema

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Batch

MOST_CHANNELS = 4
"""Channels that a picture has at most; no more values than these along the last axis are channels, not columns."""


class Augmentation(Schema):
    """Random changes of pictures [N, C, H, W] that leave their meaning as it is (He et al. 2015, arXiv:1512.03385, section 4.2)."""

    flip: bool = Field(False, description="Mirror every other picture, at random.")
    crop: int = Field(
        0, ge=0, description="Shift by up to so many pixels in each direction; what comes in is zero, the mean of normalised pictures."
    )


def check(options: Augmentation, inputs: Batch, label: Any) -> None:
    """See to it that changing pictures leaves their labels right.

    Raises:
        RecipeError: the labels lie in the picture and would stay where they are, or channels come last.
    """
    if not (options.flip or options.crop):
        return
    if isinstance(label, (Mask, Boxes)):
        kind = "masks" if isinstance(label, Mask) else "boxes"
        raise RecipeError(f"augment would change pictures and leave their {kind} as they are", hint="leave 'augment' out of 'training'")
    for name, value in inputs.items():
        if value.ndim == 4 and value.shape[3] <= MOST_CHANNELS < value.shape[1]:
            raise RecipeError(
                f"augment takes pictures [N, C, H, W]; the channels of {name!r} {list(value.shape)} come last",
                hint="leave 'augment' out of 'training'",
            )


def augmented(inputs: dict[str, torch.Tensor], options: Augmentation) -> dict[str, torch.Tensor]:
    """Change pictures at random, each in its own way."""
    import torch

    changed = {}
    for name, value in inputs.items():
        if value.ndim != 4 or not (options.flip or options.crop):
            changed[name] = value
            continue
        if options.flip:
            mirrored = torch.rand(len(value), 1, 1, 1, device=value.device) < 0.5
            value = torch.where(mirrored, value.flip(3), value)
        if options.crop:
            value = _shifted(value, options.crop)
        changed[name] = value
    return changed


def _shifted(pictures: torch.Tensor, most: int) -> torch.Tensor:
    import torch

    count, _, height, width = pictures.shape
    padded = torch.nn.functional.pad(pictures, (most, most, most, most))
    rows = torch.randint(2 * most + 1, (count, 1), device=pictures.device) + torch.arange(height, device=pictures.device)
    columns = torch.randint(2 * most + 1, (count, 1), device=pictures.device) + torch.arange(width, device=pictures.device)
    which = torch.arange(count, device=pictures.device)[:, None, None]
    return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
