"""What every reader promises, whatever it reads."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.datasets import Boxes, Mask, Record
from edgekit.core.errors import DataError
from edgekit.core.plugin import Reader
from edgekit.core.registry import create, names

N = 9
LABELS = [i % 3 for i in range(N)]


def write_npz(base: Path) -> dict[str, Any]:
    np.savez_compressed(base / "a.npz", x=np.arange(N * 4).reshape(N, 2, 2), y=LABELS, place=[f"p{i}" for i in range(N)])
    return {"path": "a.npz", "inputs": {"input": "x"}, "labels": "y", "metadata": {"place": "place"}}


def write_images(base: Path) -> dict[str, Any]:
    from PIL import Image

    rows = []
    for i in range(N):
        stream = io.BytesIO()
        Image.fromarray(np.full((4, 5, 3), i * 20, np.uint8)).save(stream, "PNG")
        (base / f"{i}.png").write_bytes(stream.getvalue())
        rows.append(f"{i}.png,{LABELS[i]},p{i}\n")
    (base / "labels.csv").write_text("file,label,place\n" + "".join(rows), encoding="utf-8")
    return {"path": ".", "labels": "labels.csv", "metadata": ["place"]}


def write_text(base: Path) -> dict[str, Any]:
    (base / "a.csv").write_text("".join(f'"text, {i}",{LABELS[i]},p{i}\n' for i in range(N)), encoding="utf-8")
    return {"path": "a.csv", "text": 0, "label": 1, "metadata": [2]}


def write_loader(base: Path) -> dict[str, Any]:
    code = f"import numpy as np\ndef load():\n    for i in range({N}):\n        yield np.full(3, i), i % 3\n"
    (base / "mine.py").write_text(code, encoding="utf-8")
    return {"function": "mine.py:load"}


def write_boxes(base: Path) -> dict[str, Any]:
    write_images(base)
    boxes = [{"file": f"{i}.png", "width": 5, "height": 4, "boxes": [[1, 1, 4, 3]], "labels": [LABELS[i]]} for i in range(N)]
    (base / "annotations.json").write_text(json.dumps(boxes), encoding="utf-8")
    return {"path": "."}


def write_masks(base: Path) -> dict[str, Any]:
    from PIL import Image

    write_images(base)
    (base / "masks").mkdir()
    for i in range(N):
        Image.fromarray(np.full((4, 5), LABELS[i], np.uint8)).save(base / "masks" / f"{i}.png")
    return {"path": ".", "masks": "masks"}


def write_audio(base: Path) -> dict[str, Any]:
    for i in range(N):
        with wave.open(str(base / f"{i}_{LABELS[i]}_p{i}.wav"), "wb") as recording:
            recording.setparams((1, 2, 8000, 0, "NONE", ""))
            recording.writeframes(np.full(40, 100 * i + 1, "<i2").tobytes())
    return {"path": ".", "name": r"\d_(?P<label>\d)_(?P<place>p\d)\.wav", "rate": 8000, "seconds": 0.01}


def number(label: Any) -> int:
    """The class that a label of any kind tells."""
    if isinstance(label, Mask):
        return int(label.pixels[0, 0])
    return int(label.classes[0] if isinstance(label, Boxes) else label)


WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "audio": write_audio,
    "boxes": write_boxes,
    "masks": write_masks,
    "npz": write_npz,
    "images": write_images,
    "text": write_text,
    "loader": write_loader,
}


def test_every_reader_is_tested_here() -> None:
    assert sorted(WRITERS) == names(Reader)


@pytest.fixture(params=sorted(WRITERS))
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    return create(Reader, {"use": request.param, **WRITERS[request.param](tmp_path)}, "test")


def same(a: Record, b: Record) -> bool:
    values = all(np.array_equal(a.values[name], b.values[name]) for name in a.values)
    return set(a.values) == set(b.values) and values and (number(a.label), a.metadata) == (number(b.label), b.metadata)


def test_the_count_is_that_of_the_stream(reader: Reader, tmp_path: Path) -> None:
    assert reader.count(tmp_path) == len(list(reader.stream(tmp_path, range(N)))) == N


def test_a_subset_is_the_same_as_picking_from_the_whole(reader: Reader, tmp_path: Path) -> None:
    whole = list(reader.stream(tmp_path, range(N)))
    for indices in ([0], [N - 1], [1, 2, 5], [0, N - 1]):
        picked = list(reader.stream(tmp_path, indices))
        assert len(picked) == len(indices)
        assert all(same(whole[index], record) for index, record in zip(indices, picked, strict=True))


def test_reading_twice_gives_the_same(reader: Reader, tmp_path: Path) -> None:
    first, second = (list(reader.stream(tmp_path, range(N))) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_records_are_arrays_or_texts_with_labels_and_metadata(reader: Reader, tmp_path: Path) -> None:
    for index, record in enumerate(reader.stream(tmp_path, range(N))):
        assert record.values
        assert all(isinstance(value, np.ndarray | str) for value in record.values.values())
        assert number(record.label) == LABELS[index]
        assert all(isinstance(value, str) for value in record.metadata.values())


def test_the_samples_differ(reader: Reader, tmp_path: Path) -> None:
    whole = list(reader.stream(tmp_path, range(N)))
    assert not any(same(a, b) for i, a in enumerate(whole) for b in whole[:i])


def test_the_files_exist(reader: Reader, tmp_path: Path) -> None:
    files = reader.files(tmp_path)
    assert all(path.is_absolute() and path.is_file() for path in files)
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"loader"}))
def test_a_missing_file_is_named_not_hidden(name: str, tmp_path: Path) -> None:
    options = WRITERS[name](tmp_path) | {"path": "gone.csv"}
    found = create(Reader, {"use": name, **options}, "test")
    assert found.files(tmp_path) == [tmp_path / "gone.csv"]
    with pytest.raises(DataError):
        found.count(tmp_path)
