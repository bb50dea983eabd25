from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.data.images import Images

from .conftest import picture, png, write_folder, write_tar

Write = Callable[[Path, dict[str, bytes]], Path]


@pytest.fixture(params=["folder", "tar"])
def write(request: pytest.FixtureRequest) -> Callable[[Path, dict[str, bytes]], str]:
    def store(base: Path, members: dict[str, bytes]) -> str:
        if request.param == "tar":
            return write_tar(base / "store.tar", members).name
        return write_folder(base / "store", members).name

    return store


def test_subfolders_are_classes(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path, {"dog/1.png": png(picture(1)), "cat/0.png": png(picture(0)), "dog/readme.txt": b"no picture"})
    reader = Images(path=path, labels="folders")
    assert reader.classes(tmp_path) == ("cat", "dog")
    assert reader.count(tmp_path) == 2
    records = list(reader.stream(tmp_path, [0, 1]))
    assert [r.label for r in records] == ["cat", "dog"]
    np.testing.assert_array_equal(records[1].values["input"], picture(1))


def test_a_csv_file_inside_names_pictures_labels_and_metadata(tmp_path: Path, write: Write) -> None:
    csv = b"file,label,place\nb.png,1,river\na.png,0,wood\n"
    path = write(tmp_path, {"a.png": png(picture(0)), "b.png": png(picture(1)), "c.png": png(picture(2)), "labels.csv": csv})
    reader = Images(path=path, labels="labels.csv", metadata=("place",), input="image")
    records = list(reader.stream(tmp_path, [0, 1]))
    assert reader.count(tmp_path) == 2
    assert [(r.label, r.metadata) for r in records] == [("1", {"place": "river"}), ("0", {"place": "wood"})]
    np.testing.assert_array_equal(records[0].values["image"], picture(1))


def test_a_csv_file_beside_counts_among_the_files(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path, {"val/a.png": png(picture(0))})
    (tmp_path / "val.csv").write_text("\ufeffname,class\na.png,cat\n", encoding="utf-8")
    reader = Images(path=path, prefix="val", labels="val.csv", file_column="name", label_column="class")
    assert [r.label for r in reader.stream(tmp_path, [0])] == ["cat"]
    assert tmp_path / "val.csv" in reader.files(tmp_path)


def test_without_labels_all_pictures_in_order_of_names(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path, {"b.jpg": png(picture(1), "JPEG"), "a.png": png(picture(0)), "x/c.png": png(picture(2))})
    reader = Images(path=path)
    assert reader.count(tmp_path) == 3
    assert Images(path=path, pattern="*.png").count(tmp_path) == 2
    assert Images(path=path, prefix="x/").count(tmp_path) == 1
    (first,) = reader.stream(tmp_path, [0])
    assert first.label is None
    np.testing.assert_array_equal(first.values["input"], picture(0))


def test_grey_palette_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    from PIL import Image

    grey = np.full((4, 5), 77, np.uint8)
    members = {"a.png": png(grey)}
    for name, mode in (("b.png", "P"), ("c.png", "RGBA")):
        stream = io.BytesIO()
        Image.fromarray(picture(0)).convert(mode).save(stream, "PNG")
        members[name] = stream.getvalue()
    records = list(Images(path=write_folder(tmp_path / "s", members).name).stream(tmp_path, [0, 1, 2]))
    np.testing.assert_array_equal(records[0].values["input"], np.full((4, 5, 3), 77))
    assert [r.values["input"].shape for r in records] == [(4, 5, 3), (12, 10, 3), (12, 10, 3)]  # type: ignore[union-attr]
    np.testing.assert_array_equal(records[2].values["input"], picture(0))


@pytest.mark.parametrize(
    ("content", "message"),
    [(png(picture(0), "JPEG")[:300], "damaged picture"), (b"GIF? no.", "is not a picture"), (b"", "is not a picture")],
)
def test_damaged_pictures_are_named(tmp_path: Path, write: Write, content: bytes, message: str) -> None:
    path = write(tmp_path, {"a.png": png(picture(0)), "b.jpg": content})
    with pytest.raises(DataError, match=rf"b\.jpg: .*{message}"):
        list(Images(path=path).stream(tmp_path, [0, 1]))


def test_deep_pictures_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "s", {"a.png": png(np.full((4, 4), 40_000, np.uint16))})
    with pytest.raises(DataError, match="more than 8 bits"):
        list(Images(path="s").stream(tmp_path, [0]))


def test_an_absurdly_large_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write_folder(tmp_path / "s", {"a.png": png(picture(0))})
    with pytest.raises(DataError, match="more pixels than a picture should have"):
        list(Images(path="s").stream(tmp_path, [0]))


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        (b"file,label\nz.png,1\n", "line 2: .*holds no 'z.png'"),
        (b"name,label\na.png,1\n", "has no column 'file'"),
        (b"file,label\na.png\n", "line 2 is cut short"),
        (b"\xff\xfe\x00", "can't be read"),
    ],
)
def test_wrong_label_files_are_refused(tmp_path: Path, write: Write, csv: bytes, message: str) -> None:
    path = write(tmp_path, {"a.png": png(picture(0)), "labels.csv": csv})
    with pytest.raises(DataError, match=message):
        Images(path=path, labels="labels.csv").count(tmp_path)


def test_a_label_file_that_is_nowhere_is_refused(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path, {"a.png": png(picture(0))})
    with pytest.raises(DataError, match=r"labels\.csv can't be read"):
        Images(path=path, labels="labels.csv").count(tmp_path)


def test_a_picture_outside_every_class_is_refused(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path, {"cat/a.png": png(picture(0)), "b.png": png(picture(1))})
    with pytest.raises(DataError, match=r"b\.png lies in no class"):
        Images(path=path, labels="folders").count(tmp_path)


def test_bad_tars_are_refused(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", {f"{i}.png": png(picture(i, 40, 40)) for i in range(4)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "random.tar").write_bytes(np.random.default_rng(0).bytes(4096))
    for name in ("cut.tar", "random.tar"):
        with pytest.raises(DataError, match="not a whole, uncompressed tar"):
            Images(path=name).count(tmp_path)


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert Images(path="a.tar").count(tmp_path) == 0
