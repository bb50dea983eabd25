from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.datasets import Boxes
from edgekit.core.errors import DataError
from edgekit.data import open_dataset
from edgekit.data.boxes import PicturesWithBoxes

from .conftest import Describe, picture, png, write_folder, write_tar

PICTURES = {"a.png": png(picture(0, 20, 10)), "b.png": png(picture(1, 20, 10))}
PLAIN = [
    {"file": "b.png", "width": 10, "height": 20, "boxes": [[1, 2, 5, 10], [0, 0, 10, 20]], "labels": [1, 0]},
    {"file": "a.png", "width": 10, "height": 20, "boxes": [], "labels": []},
]
COCO = {
    "images": [
        {"id": 7, "file_name": "b.png", "width": 10, "height": 20},
        {"id": 5, "file_name": "a.png", "width": 10, "height": 20},
    ],
    "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"image_id": 7, "category_id": 90, "bbox": [1, 2, 4, 8], "iscrowd": 0},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 20], "iscrowd": 0},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": 1},
    ],
}


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


STORES: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "folder": lambda base, members: write_folder(base / "store", members),
    "tar": lambda base, members: write_tar(base / "store.tar", members),
    "zip": lambda base, members: write_zip(base / "store.zip", members),
}


@pytest.mark.parametrize("store", sorted(STORES))
@pytest.mark.parametrize("content", [PLAIN, COCO], ids=["plain", "coco"])
def test_boxes_are_shares_of_the_picture_in_the_order_of_the_file(tmp_path: Path, store: str, content: Any) -> None:
    path = STORES[store](tmp_path, {**PICTURES, "annotations.json": json.dumps(content).encode()})
    reader = PicturesWithBoxes(path=path.name)
    first, second = reader.stream(tmp_path, [0, 1])
    np.testing.assert_array_equal(first.values["input"], picture(1, 20, 10))
    np.testing.assert_allclose(first.label.corners, [[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]])
    assert (first.label.classes.tolist(), second.label.classes.tolist(), second.label.corners.shape) == ([1, 0], [], (0, 4))
    assert reader.classes(tmp_path) == (("car", "toothbrush") if content is COCO else ())


def test_the_file_may_lie_beside_and_counts_among_the_files(tmp_path: Path) -> None:
    write_tar(tmp_path / "store.tar", {f"val/{name}": content for name, content in PICTURES.items()})
    (tmp_path / "val.json").write_text(json.dumps(PLAIN), encoding="utf-8")
    reader = PicturesWithBoxes(path="store.tar", annotations="val.json", prefix="val")
    assert reader.files(tmp_path) == [tmp_path / "store.tar", tmp_path / "val.json"]
    assert reader.count(tmp_path) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b'{"images": []}', "no key 'categories'"),
        (json.dumps([{**PLAIN[0], "file": "c.png"}]).encode(), "holds no 'c.png'"),
        (json.dumps([{**PLAIN[0], "labels": [1]}]).encode(), "2 boxes and 1 labels"),
        (json.dumps([{**PLAIN[0], "boxes": [[5, 2, 1, 10], [0, 0, 1, 1]]}]).encode(), "not left above right below"),
        (json.dumps([{**PLAIN[0], "width": 0}]).encode(), "a size of 0"),
    ],
)
def test_wrong_annotations_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    write_tar(tmp_path / "store.tar", {**PICTURES, "annotations.json": content})
    with pytest.raises(DataError, match=message):
        PicturesWithBoxes(path="store.tar").count(tmp_path)


def test_no_annotations_at_all_are_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "store.tar", PICTURES)
    with pytest.raises(DataError, match=r"annotations\.json lies neither in it nor beside it"):
        PicturesWithBoxes(path="store.tar").count(tmp_path)


def opened(tmp_path: Path, describe: Describe, **content: Any) -> Any:
    write_tar(tmp_path / "store.tar", {**PICTURES, "annotations.json": json.dumps(PLAIN).encode()})
    return open_dataset(describe(read={"use": "boxes", "path": "store.tar"}, **content), role="evaluation", base=tmp_path)


def test_a_set_gives_boxes_whatever_the_size_of_its_pictures(tmp_path: Path, describe: Describe) -> None:
    data = opened(tmp_path, describe, classes=["car", "toothbrush"], preprocess={"resize": [8, 8]})
    inputs, labels = next(data.batches(2))
    assert inputs["input"].shape == (2, 3, 8, 8)
    assert [type(label) for label in labels] == [Boxes, Boxes]
    np.testing.assert_allclose(labels[0].corners[0], [0.1, 0.1, 0.5, 0.5])


def test_a_class_that_is_none_and_a_crop_that_cuts_boxes_are_refused(tmp_path: Path, describe: Describe) -> None:
    with pytest.raises(DataError, match=r"sample 0 has label 1, labels go from 0 to 0"):
        next(opened(tmp_path, describe, classes=["car"]).batches())
    with pytest.raises(DataError, match="a crop cuts boxes"):
        next(opened(tmp_path, describe, preprocess={"crop": 8}).batches())


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.zip").write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match="is not a whole zip"):
        PicturesWithBoxes(path="store.zip").count(tmp_path)
