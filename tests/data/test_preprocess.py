from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgekit.core.errors import DataError
from edgekit.data._preprocess import Preprocess

from .conftest import picture


def test_the_imagenet_recipe_is_torchvisions() -> None:
    """Against Resize(256), CenterCrop(224), ToTensor(), Normalize(...) written out on PIL and float64."""
    from PIL import Image

    pixels, mean, std = picture(0, 300, 401), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    resized = np.asarray(Image.fromarray(pixels).resize((int(256 * 401 / 300), 256), Image.Resampling.BILINEAR))
    cropped = resized[16 : 16 + 224, 59 : 59 + 224]
    wanted = ((cropped / 255 - mean) / std).transpose(2, 0, 1)
    made = Preprocess(resize=256, crop=224, scale="1/255", mean=mean, std=std, layout="nchw").apply(pixels)  # type: ignore[arg-type]
    assert (made.shape, made.dtype) == ((3, 224, 224), np.float32)
    np.testing.assert_allclose(made, wanted, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "sample", "wanted"),
    [
        ({"zero_point": 83, "scale": 0.5}, np.array([[83, 85], [81, -128]], np.int8), [[[0, 1], [-1, -105.5]]]),
        ({"scale": "1/127.5", "mean": 1}, np.array([[[0, 255]]], np.uint8), [[[-1]], [[1]]]),
        ({"layout": "nhwc"}, np.array([[1, 2]], np.uint8), [[[1], [2]]]),
        ({"layout": "as-is"}, np.array([1.5, 2.5]), [1.5, 2.5]),
        ({"layout": "as-is", "mean": [1, 2], "std": [2, 4]}, np.array([[3.0, 6.0]]), [[1, 1]]),
        ({"channels": "bgr"}, np.array([[[1, 2, 3]]], np.uint8), [[[3]], [[2]], [[1]]]),
        ({"dtype": "uint8"}, np.array([[7]], np.int64), [[[7]]]),
    ],
)
def test_arrays(options: dict[str, Any], sample: np.ndarray, wanted: list[Any]) -> None:
    made = Preprocess(**options).apply(sample)
    np.testing.assert_allclose(made, wanted, atol=1e-6)
    assert made.dtype == options.get("dtype", "float32")


@pytest.mark.parametrize(
    ("options", "sample", "message"),
    [
        ({}, np.zeros(5), r"layout nchw needs samples \[H, W\]"),
        ({"crop": 2}, np.zeros(5), "crop needs pictures"),
        ({"resize": 4}, np.zeros((8, 8, 3)), "resize needs 8-bit pictures"),
        ({"channels": "bgr"}, np.zeros((4, 4)), "channels: bgr needs"),
        ({"channels": "gray"}, np.zeros((4, 4, 3)), "gray needs 8-bit"),
        ({"mean": [1, 2]}, np.zeros((4, 4, 3)), "mean has 2 values, the samples have 3 channels"),
        ({"std": [1, 2]}, np.zeros((4, 4)), "std has 2 values, the samples have 1 channels"),
        ({"dtype": "int8"}, np.full((4, 4), 200, np.uint8), "int8 can't hold this sample of uint8"),
        ({"dtype": "uint8"}, np.full((4, 4), 0.5), "uint8 can't hold this sample of float64"),
    ],
)
def test_steps_that_do_not_fit_the_sample(options: dict[str, Any], sample: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preprocess(**options).apply(sample)


@pytest.mark.parametrize(
    "options",
    [
        {"std": 0},
        {"std": [1, 0, 1]},
        {"scale": "1/0"},
        {"scale": "a/b"},
        {"scale": "1/255", "dtype": "uint8"},
        {"resize": 0},
        {"crop": [1, 2, 3]},
        {"mean": []},
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Preprocess(**options)
