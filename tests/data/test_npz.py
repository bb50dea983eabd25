from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.data.npz import Npz

from .conftest import picture, png


def arrays(tmp_path: Path, **members: np.ndarray) -> Path:
    np.savez_compressed(tmp_path / "a.npz", **members)
    return tmp_path


def read(base: Path, indices: list[int], **options: object) -> list[object]:
    return list(Npz(path="a.npz", **options).stream(base, indices))  # type: ignore[arg-type]


def test_rows_come_with_labels_and_metadata(tmp_path: Path) -> None:
    x = np.arange(5 * 6, dtype=np.int16).reshape(5, 2, 3)
    base = arrays(tmp_path, x=x, y=np.array([3, 1, 4, 1, 5], np.uint8), where=np.array(list("abcde")))
    reader = Npz(path="a.npz", inputs={"image": "x"}, labels="y", metadata={"place": "where"})
    assert reader.count(base) == 5
    records = list(reader.stream(base, [1, 4]))
    np.testing.assert_array_equal([r.values["image"] for r in records], x[[1, 4]])
    assert [r.label for r in records] == [1, 5]
    assert [r.metadata for r in records] == [{"place": "b"}, {"place": "e"}]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_several_inputs_of_different_types(tmp_path: Path, save: object) -> None:
    ids, mask = np.arange(12).reshape(4, 3), np.ones((4, 3), np.float32)
    save(tmp_path / "a.npz", ids=ids, mask=mask)  # type: ignore[operator]
    (record,) = read(tmp_path, [3], inputs={"input_ids": "ids", "attention_mask": "mask"})
    np.testing.assert_array_equal(record.values["input_ids"], [9, 10, 11])  # type: ignore[attr-defined]
    assert record.values["attention_mask"].dtype == np.float32  # type: ignore[attr-defined]
    assert record.label is None  # type: ignore[attr-defined]


def test_encoded_pictures_end_to_end(tmp_path: Path) -> None:
    pixels = [picture(seed, 4 + seed, 6) for seed in range(4)]
    files = [png(p) for p in pixels]
    blob = np.frombuffer(b"".join(files), np.uint8)
    base = arrays(tmp_path, blob=blob, offset=np.cumsum([0, *map(len, files)]), label=np.arange(4))
    reader = Npz(path="a.npz", inputs={"input": "blob"}, offsets="offset", labels="label")
    assert reader.count(base) == 4
    for index, record in zip([0, 1, 3], reader.stream(base, [0, 1, 3]), strict=True):
        np.testing.assert_array_equal(record.values["input"], pixels[index])
        assert record.label == index


def test_labels_of_another_length_are_refused(tmp_path: Path) -> None:
    base = arrays(tmp_path, x=np.zeros((5, 2)), y=np.zeros(4))
    with pytest.raises(DataError, match="'x' has 5 samples, 'y' has 4"):
        Npz(path="a.npz", inputs={"input": "x"}, labels="y").count(base)


def test_unknown_array_names_the_nearest(tmp_path: Path) -> None:
    base = arrays(tmp_path, images=np.zeros((5, 2)))
    with pytest.raises(DataError, match=r"'image'.*did you mean 'images'"):
        Npz(path="a.npz", inputs={"input": "image"}).count(base)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.asfortranarray(np.zeros((3, 4))), "column by column"),
        (np.array(5), "single value"),
        (np.array([{"a": 1}, None], object), "Python objects, which edgekit does not execute"),
    ],
)
def test_arrays_that_can_not_be_streamed_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    base = arrays(tmp_path, x=array)
    with pytest.raises(DataError, match=message):
        Npz(path="a.npz", inputs={"input": "x"}).count(base)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    arrays(tmp_path, x=np.zeros((50, 40)))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"not a whole .npz"):
        Npz(path="a.npz", inputs={"input": "x"}).count(tmp_path)


def test_an_array_shorter_than_its_header_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros((50, 40)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue()[:-8])
        archive.writestr("y.npy", b"no array at all")
    with pytest.raises(DataError, match="'x' is cut short"):
        Npz(path="a.npz", inputs={"input": "x"}).count(tmp_path)
    with pytest.raises(DataError, match="'y' has no readable header"):
        Npz(path="a.npz", inputs={"input": "y"}).count(tmp_path)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    good = png(picture(0))
    blob = np.frombuffer(good + good[:60] + b"nothing", np.uint8)
    base = arrays(tmp_path, blob=blob, offset=np.cumsum([0, len(good), 60, 7]))
    with pytest.raises(DataError, match="sample 1: is a damaged picture"):
        read(base, [0, 1], inputs={"input": "blob"}, offsets="offset")
    with pytest.raises(DataError, match="sample 2: is not a picture"):
        read(base, [2], inputs={"input": "blob"}, offsets="offset")


@pytest.mark.parametrize("offsets", [[0, 5, 10_000], [0, -5, 10], [50, 60, 20]])
def test_offsets_outside_the_bytes_are_refused(tmp_path: Path, offsets: list[int]) -> None:
    base = arrays(tmp_path, blob=np.frombuffer(png(picture(0)), np.uint8), offset=np.array(offsets))
    with pytest.raises(DataError, match=r"offsets of sample|ascending|picture"):
        read(base, [0, 1], inputs={"input": "blob"}, offsets="offset")


def test_offsets_into_something_that_is_no_bytes_are_refused(tmp_path: Path) -> None:
    base = arrays(tmp_path, blob=np.zeros((4, 4)), offset=np.array([0, 2, 4]))
    with pytest.raises(DataError, match="no run of bytes"):
        read(base, [0], inputs={"input": "blob"}, offsets="offset")


def test_several_files_are_one_set(tmp_path: Path) -> None:
    for name, start, rows in (("a", 0, 3), ("b", 3, 2), ("c", 5, 4)):
        np.savez(tmp_path / f"{name}.npz", x=np.arange(start, start + rows)[:, None], y=np.arange(start, start + rows) * 10)
    reader = Npz(path=("a.npz", "b.npz", "c.npz"), inputs={"x": "x"}, labels="y")
    assert [path.name for path in reader.files(tmp_path)] == ["a.npz", "b.npz", "c.npz"]
    assert reader.count(tmp_path) == 9
    records = list(reader.stream(tmp_path, [1, 2, 5, 8]))
    assert [int(r.values["x"][0]) for r in records] == [1, 2, 5, 8]
    assert [r.label for r in records] == [10, 20, 50, 80]
