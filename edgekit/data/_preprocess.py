"""What a set's YAML may say under ``preprocess``: from stored arrays to what the model takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from edgekit.algorithms import images
from edgekit.core.errors import DataError
from edgekit.core.schema import Schema


def _fraction(value: Any) -> Any:
    """Read ``1/255``, which people write and YAML takes for text."""
    if isinstance(value, str) and value.count("/") == 1:
        over, under = value.split("/")
        try:
            return float(over) / float(under)
        except (ValueError, ZeroDivisionError):
            return value
    return value


def _each(value: Any) -> Any:
    return (value,) if isinstance(value, int | float | str) else value


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Number = Annotated[float, BeforeValidator(_fraction)]
Side = Annotated[int, Field(ge=1, le=100_000)]
Size = Annotated[Side | tuple[Side, Side], BeforeValidator(_pair)]
PerChannel = Annotated[tuple[Number, ...], BeforeValidator(_each), Field(min_length=1)]


class Preprocess(Schema):
    """Steps in the order in which they are done: resize, crop, channels, ``((x - zero_point) * scale - mean) / std``, layout, dtype."""

    resize: Size | None = Field(None, description="Shorter side in pixels, or [height, width].")
    interpolation: images.Interpolation = Field("bilinear", description="Filter of the resize, antialiased as in Pillow.")
    crop: Size | None = Field(None, description="Side of a centred square, or [height, width].")
    channels: images.Channels = Field("rgb", description="Channel order the model takes; gray is luma.")
    zero_point: Number = Field(0.0, description="Stored integer that stands for 0.")
    scale: Number = Field(1.0, description="Factor on stored values; 1/255 may be written so.")
    mean: PerChannel = Field((0.0,), description="One value or one a channel, after scaling.")
    std: PerChannel = Field((1.0,), description="One value or one a channel, after scaling.")
    layout: images.Layout = Field("nchw", description="Order of a sample's axes; a sample [H, W] counts as one channel.")
    dtype: Literal["float32", "float16", "uint8", "int8", "int32", "int64"] = Field("float32", description="Element type of the input.")

    @model_validator(mode="after")
    def _sensible(self) -> Preprocess:
        if any(value == 0 for value in self.std):
            raise ValueError("std must not be 0")
        if not self.dtype.startswith("float") and self._scales:
            raise ValueError(f"scale, mean and std make fractions, which dtype {self.dtype} can't hold")
        return self

    @property
    def _scales(self) -> bool:
        return self.scale != 1 or self.zero_point != 0 or any(self.mean) or any(value != 1 for value in self.std)

    def apply(self, sample: np.ndarray) -> np.ndarray:
        """Preprocess one sample ([H, W], [H, W, C] or anything, where ``layout`` is ``as-is``).

        Raises:
            DataError: a step does not fit the sample.
        """
        if sample.ndim == 2 and self.layout != "as-is":
            sample = sample[:, :, None]
        if self.resize is not None:
            sample = images.resize(sample, self.resize, self.interpolation)
        if self.crop is not None:
            sample = images.center_crop(sample, self.crop)
        sample = images.reorder(sample, self.channels)
        if self._scales:
            sample = images.normalize(sample, scale=self.scale, zero_point=self.zero_point, mean=self.mean, std=self.std)
        return _cast(images.arrange(sample, self.layout), np.dtype(self.dtype))


def _cast(sample: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "i" or dtype.kind == "u":
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
        if sample.dtype.kind == "f" or (sample.size and not lowest <= int(sample.min()) <= int(sample.max()) <= highest):
            raise DataError(f"dtype {dtype} can't hold this sample of {sample.dtype}", hint="dtype: float32, or another integer type")
    return sample.astype(dtype, copy=False)
