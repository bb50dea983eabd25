"""Pictures from bytes: every way in which a file can be no picture ends in one error that names it."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.core.errors import DataError

_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def decode(data: bytes, where: str) -> np.ndarray:
    """Decode a JPEG, PNG or other picture to RGB, as torchvision's default loader does (EXIF rotation is not applied).

    Args:
        data: the encoded file.
        where: its name, for messages.

    Returns:
        uint8 [H, W, 3].

    Raises:
        DataError: not a picture, truncated, deeper than 8 bits, or absurdly large.
    """
    return _opened(data, where, lambda picture: np.asarray(picture.convert("RGB")))


def decode_mask(data: bytes, where: str) -> np.ndarray:
    """Decode a grey or palette picture whose values are classes.

    Args:
        data: the encoded file.
        where: its name, for messages.

    Returns:
        uint8 [H, W].

    Raises:
        DataError: as for :func:`decode`, or a picture in colours.
    """

    def classes(picture: Any) -> np.ndarray:
        if picture.mode not in ("L", "P", "1"):
            raise DataError(f"{where}: is a picture in colours, not a mask", hint="store each pixel's class as a grey or palette value")
        return np.asarray(picture).astype(np.uint8)

    return _opened(data, where, classes)


def _opened(data: bytes, where: str, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as picture:
                if picture.mode in _DEEP:
                    raise DataError(f"{where}: has more than 8 bits a channel", hint="store it as numbers in an npz file")
                return read(picture)
    except UnidentifiedImageError as problem:
        raise DataError(f"{where}: is not a picture", hint="remove it, or keep to pictures with 'pattern'") from problem
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise DataError(f"{where}: has more pixels than a picture should have ({problem})", hint="make it smaller first") from problem
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as problem:
        raise DataError(f"{where}: is a damaged picture ({problem})", hint="fetch it again, or remove it") from problem
