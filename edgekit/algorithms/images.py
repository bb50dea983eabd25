"""From a picture's pixels to a model's input, with the definitions that Pillow, torchvision and transformers use.

Networks remember the arithmetic they were trained with: a crop that is off by one pixel or a resize without antialiasing costs
accuracy that would then be blamed on quantization. So each step here is the one of torchvision's transforms on PIL images, but for the
crop's odd pixel, where torchvision rounds half to even.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from edgekit.core.errors import DataError

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Channels = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc", "as-is"]


def resize(image: np.ndarray, size: int | tuple[int, int], interpolation: Interpolation = "bilinear") -> np.ndarray:
    """Resize with Pillow's antialiased filters.

    Args:
        image: uint8 [H, W, C] with 1 or 3 channels.
        size: shorter side, the other in proportion and rounded down (torchvision's ``Resize(int)``); or exactly (height, width).
        interpolation: Pillow's filter.

    Returns:
        uint8 [H', W', C].

    Raises:
        DataError: not an 8-bit picture.
    """
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise DataError(
            f"resize needs 8-bit pictures with 1 or 3 channels, this sample is {image.dtype} {list(image.shape)}",
            hint="leave out 'resize', or store pictures as uint8 [H, W, C]",
        )
    height, width = _size(image.shape[0], image.shape[1], size)
    if (height, width) == image.shape[:2]:
        return image
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    filters = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    return np.asarray(picture.resize((width, height), filters[interpolation])).reshape(height, width, image.shape[2])


def center_crop(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Cut out the middle; of an odd margin the odd pixel lies below or to the right, as in transformers' and TensorFlow's crops.

    Args:
        image: [H, W, C].
        size: side of a square, or (height, width).

    Raises:
        DataError: the image is smaller than the crop.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if image.ndim < 2:
        raise DataError(f"crop needs pictures [H, W, C], this sample is {list(image.shape)}", hint="leave out 'crop'")
    if image.shape[0] < height or image.shape[1] < width:
        raise DataError(
            f"a crop of {height}x{width} does not fit into {image.shape[0]}x{image.shape[1]} pixels", hint="resize first, or crop less"
        )
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def reorder(image: np.ndarray, channels: Channels) -> np.ndarray:
    """Reorder the channels of an RGB picture [H, W, 3], or reduce them to luma (ITU-R 601-2, as Pillow's mode ``L``).

    Raises:
        DataError: not three channels, or luma of something that is not 8-bit.
    """
    if channels == "rgb" or (channels == "gray" and image.shape[-1] == 1):
        return image
    if image.ndim != 3 or image.shape[-1] != 3:
        raise DataError(f"channels: {channels} needs [H, W, 3], this sample is {list(image.shape)}", hint="leave out 'channels'")
    if channels == "bgr":
        return image[:, :, ::-1]
    if image.dtype != np.uint8:
        raise DataError(f"channels: gray needs 8-bit pictures, this sample is {image.dtype}", hint="store pictures as uint8")
    weights = np.array([19595, 38470, 7471], np.uint32)
    return ((image @ weights + 0x8000) >> 16).astype(np.uint8)[:, :, None]


def normalize(
    values: np.ndarray, *, scale: float = 1.0, zero_point: float = 0.0, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)
) -> np.ndarray:
    """Return ``((values - zero_point) * scale - mean) / std`` in float32.

    Args:
        values: any array whose last axis is the channel.
        scale: size of one step of the stored integers.
        zero_point: the stored integer that stands for 0.
        mean: one value, or one a channel; in units after scaling.
        std: likewise.

    Raises:
        DataError: as many means or deviations as there are no channels.
    """
    for name, given in (("mean", mean), ("std", std)):
        if len(given) not in (1, values.shape[-1] if values.ndim else 1):
            raise DataError(
                f"{name} has {len(given)} values, the samples have {values.shape[-1]} channels", hint=f"give one {name}, or one a channel"
            )
    result = values.astype(np.float32)
    if zero_point:
        result -= np.float32(zero_point)
    if scale != 1:
        result *= np.float32(scale)
    if any(mean):
        result -= np.asarray(mean, np.float32)
    if any(value != 1 for value in std):
        result /= np.asarray(std, np.float32)
    return result


def arrange(image: np.ndarray, layout: Layout) -> np.ndarray:
    """Bring one sample [H, W, C] into the order that the model takes: channels first, channels last, or as it lies.

    Raises:
        DataError: not three axes.
    """
    if layout == "as-is":
        return image
    if image.ndim != 3:
        raise DataError(f"layout {layout} needs samples [H, W] or [H, W, C], this one is {list(image.shape)}", hint="layout: as-is")
    return image.transpose(2, 0, 1) if layout == "nchw" else image


def _size(height: int, width: int, size: int | tuple[int, int]) -> tuple[int, int]:
    if not isinstance(size, int):
        return size
    if width <= height:
        return int(size * height / width), size
    return size, int(size * width / height)
