from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.algorithms.images import center_crop, normalize, reorder, resize


def photo(height: int, width: int, channels: int = 3) -> np.ndarray:
    """A picture with structure at every scale."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / (3 + c)) + np.cos(y / (2 + c)) + np.sin(x * y / 50) for c in range(channels)], axis=-1)
    return np.uint8(127 + 40 * waves)


def filtered(image: np.ndarray, size: int, axis: int, kernel: str) -> np.ndarray:
    """One pass of Pillow's antialiased resampling, from its definition: a kernel stretched by the scale, centred on pixel centres."""
    a = -0.5
    kernels = {
        "bilinear": (1.0, lambda t: max(0.0, 1 - abs(t))),
        "bicubic": (
            2.0,
            lambda t: (
                (a + 2) * abs(t) ** 3 - (a + 3) * t * t + 1
                if abs(t) < 1
                else a * (abs(t) ** 3 - 5 * t * t + 8 * abs(t) - 4)
                if abs(t) < 2
                else 0.0
            ),
        ),
    }
    support, weigh = kernels[kernel]
    image = np.moveaxis(image.astype(np.float64), axis, 0)
    scale = len(image) / size
    stretch = max(scale, 1.0)
    rows = []
    for i in range(size):
        center = (i + 0.5) * scale
        first, last = max(0, int(center - support * stretch + 0.5)), min(len(image), int(center + support * stretch + 0.5))
        weights = np.array([weigh((j + 0.5 - center) / stretch) for j in range(first, last)])
        rows.append(np.tensordot(weights / weights.sum(), image[first:last], axes=1))
    return np.moveaxis(np.clip(np.floor(np.array(rows) + 0.5), 0, 255), 0, axis)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(13, 20), (40, 64), (70, 31)])
def test_resize_is_antialiased(kernel: str, size: tuple[int, int]) -> None:
    image = photo(40, 61)
    wanted = filtered(filtered(image, size[1], 1, kernel), size[0], 0, kernel)
    made = resize(image, size, kernel)  # type: ignore[arg-type]
    assert made.shape == (*size, 3)
    assert np.abs(made - wanted).max() <= 1


def test_nearest_takes_the_pixel_under_the_centre() -> None:
    image = photo(10, 13)
    rows, columns = [int((i + 0.5) * 10 / 4) for i in range(4)], [int((i + 0.5) * 13 / 5) for i in range(5)]
    np.testing.assert_array_equal(resize(image, (4, 5), "nearest"), image[np.ix_(rows, columns)])


@pytest.mark.parametrize(
    ("height", "width", "size", "wanted"),
    [
        (427, 640, 256, (256, 383)),
        (640, 427, 256, (383, 256)),
        (50, 50, 20, (20, 20)),
        (333, 500, 224, (224, 336)),
        (30, 40, (7, 9), (7, 9)),
    ],
)
def test_the_shorter_side_is_meant(height: int, width: int, size: int | tuple[int, int], wanted: tuple[int, int]) -> None:
    assert resize(photo(height, width), size).shape[:2] == wanted


def test_grey_pictures_keep_their_channel() -> None:
    image = photo(20, 30, 1)
    assert resize(image, 10).shape == (10, 15, 1)
    assert resize(image, (20, 30)) is image


@pytest.mark.parametrize(("side", "crop", "first"), [(10, 4, 3), (11, 4, 3), (7, 4, 1), (9, 4, 2), (4, 4, 0)])
def test_the_odd_pixel_of_a_margin_is_cut_from_the_end(side: int, crop: int, first: int) -> None:
    """transformers: (side - crop) // 2."""
    image = np.arange(side * side).reshape(side, side, 1)
    np.testing.assert_array_equal(center_crop(image, crop), image[first : first + crop, first : first + crop])
    assert center_crop(image, (crop, side)).shape == (crop, side, 1)


def test_grey_is_pillows_luma() -> None:
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    np.testing.assert_array_equal(reorder(image, "gray")[:, :, 0], np.asarray(Image.fromarray(image).convert("L")))


def test_normalize_is_the_formula() -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    wanted = ((values.astype(np.float64) - 3) * 0.25 - mean) / std
    made = normalize(values, scale=0.25, zero_point=3, mean=mean, std=std)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, wanted, rtol=1e-6)
    assert math.isclose(float(normalize(np.uint8(7))), 7.0)
