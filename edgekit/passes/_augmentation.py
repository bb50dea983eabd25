"""Random changes of training pictures, drawn from PyTorch's generator, which the training loop seeds for each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from edgekit.core.schema import Schema

if TYPE_CHECKING:
    import torch


class Augmentation(Schema):
    """Random changes of pictures [N, C, H, W] that leave their meaning as it is (He et al. 2015, arXiv:1512.03385, section 4.2)."""

    flip: bool = Field(False, description="Mirror every other picture, at random.")
    crop: int = Field(
        0, ge=0, description="Shift by up to so many pixels in each direction; what comes in is zero, the mean of normalised pictures."
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
