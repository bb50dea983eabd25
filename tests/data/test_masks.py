from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.datasets import VOID, Mask
from edgekit.core.errors import DataError
from edgekit.data import open_dataset
from edgekit.data.masks import PicturesWithMasks

from .conftest import Describe, picture, png, write_tar

CLASSES = np.arange(4 * 6).reshape(4, 6).astype(np.uint8) % 3
PICTURES = {f"photos/{name}.jpg": png(picture(seed, 4, 6), "JPEG") for seed, name in enumerate("cab")}


def palette(classes: np.ndarray) -> bytes:
    image = pytest.importorskip("PIL.Image")
    import io

    stream = io.BytesIO()
    made = image.fromarray(classes, mode="L").convert("P")
    made.putdata(classes.ravel().tolist())
    made.save(stream, "PNG")
    return stream.getvalue()


def reader(base: Path, masks: dict[str, bytes]) -> PicturesWithMasks:
    write_tar(base / "photos.tar", PICTURES)
    write_tar(base / "masks.tar", masks)
    return PicturesWithMasks(path="photos.tar", prefix="photos", masks="masks.tar")


def test_masks_belong_to_pictures_of_their_name(tmp_path: Path) -> None:
    found = reader(tmp_path, {"b.png": palette(CLASSES), "a.png": png(CLASSES * 0 + 2), "classes.txt": b"x"})
    assert found.count(tmp_path) == 2
    first, second = found.stream(tmp_path, [0, 1])
    assert (first.label.pixels == 2).all()
    np.testing.assert_array_equal(second.label.pixels, CLASSES)
    assert second.values["input"].shape == (4, 6, 3)
    assert found.files(tmp_path) == [tmp_path / "photos.tar", tmp_path / "masks.tar"]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"d.png": png(CLASSES)}, r"d\.png belongs to no picture"),
        ({"a.png": png(CLASSES[:3])}, r"is \[3, 6\], its picture \[4, 6\]"),
        ({"a.png": png(picture(0, 4, 6))}, "a picture in colours, not a mask"),
        ({"a.png": b"no"}, "is not a picture"),
    ],
)
def test_wrong_masks_are_refused(tmp_path: Path, masks: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(reader(tmp_path, masks).stream(tmp_path, [0]))


def labels(tmp_path: Path, describe: Describe, mask: np.ndarray, **content: Any) -> Any:
    reader(tmp_path, {"a.png": png(mask)})
    read = {"use": "masks", "path": "photos.tar", "prefix": "photos", "masks": "masks.tar"}
    return next(open_dataset(describe(read=read, **content), role="evaluation", base=tmp_path).batches())[1]


def test_a_set_gives_masks_in_their_own_size_and_spares_what_does_not_count(tmp_path: Path, describe: Describe) -> None:
    mask = np.where(CLASSES == 2, VOID, CLASSES + 1).astype(np.uint8)
    (label,) = labels(tmp_path, describe, mask, classes=["road", "tree"], first_label=1, preprocess={"resize": [8, 8]})
    assert isinstance(label, Mask)
    np.testing.assert_array_equal(label.pixels, np.where(CLASSES == 2, VOID, CLASSES))


def test_a_pixel_of_no_class_is_refused(tmp_path: Path, describe: Describe) -> None:
    with pytest.raises(DataError, match="label 2, labels go from 0 to 1"):
        labels(tmp_path, describe, CLASSES, classes=["road", "tree"])
