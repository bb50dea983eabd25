from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.data import open_dataset
from edgekit.data.loader import Loader

from .conftest import Describe

CODE = """
import numpy as np

def pairs(count=4):
    return [(np.full((2, 2), i, np.float32), i % 2) for i in range(count)]

def generator():
    for i in range(5):
        yield {"ids": np.array([i]), "text": f"text {i}"}, None

class Lazy:
    def __len__(self):
        return 3
    def __getitem__(self, index):
        if index > 2:
            raise IndexError(index)
        return np.array([index]), "cat"

def lazy():
    return Lazy()

def of_file(path, factor):
    return [(np.fromstring(path.read_text(), sep=" ") * factor, None)]

def breaks():
    yield np.zeros(2), 0
    raise KeyError("lost")

def wrong_shape():
    return [np.zeros(3)]

def number():
    return 5

def texts():
    return ["abc", "def"]
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE, encoding="utf-8")
    return tmp_path


def test_a_list_is_read_by_index(base: Path) -> None:
    reader = Loader(function="mine.py:pairs", arguments={"count": 6})
    assert reader.count(base) == 6
    records = list(reader.stream(base, [1, 5]))
    assert [r.label for r in records] == [1, 1]
    np.testing.assert_array_equal(records[1].values["input"], np.full((2, 2), 5.0))


def test_a_generator_is_counted_and_read_from_its_start(base: Path) -> None:
    reader = Loader(function="mine.py:generator")
    assert reader.count(base) == 5
    assert [r.values["text"] for r in reader.stream(base, [0, 3])] == ["text 0", "text 3"]


def test_a_class_with_length_and_items_is_enough(base: Path) -> None:
    reader = Loader(function="mine.py:lazy")
    assert reader.count(base) == 3
    assert [int(r.values["input"][0]) for r in reader.stream(base, [0, 2])] == [0, 2]  # type: ignore[arg-type]


def test_declared_files_are_checked_handed_over_and_digested(base: Path, describe: Describe) -> None:
    (base / "numbers.txt").write_text("1 2 3", encoding="utf-8")
    reference = describe(read={"use": "loader", "function": "mine.py:of_file", "files": ["numbers.txt"], "arguments": {"factor": 2}})
    data = open_dataset(reference, role="calibration", base=base)
    batch, _ = next(data.batches())
    np.testing.assert_array_equal(batch["input"], [[2, 4, 6]])
    assert set(data.provenance["files"]) == {"numbers.txt", "mine.py"}
    (base / "helper.py").touch()
    (base / "mine.py").write_text(f"import helper\n{CODE}", encoding="utf-8")
    before = open_dataset(reference, role="calibration", base=base).digest
    (base / "helper.py").write_text("# changed", encoding="utf-8")
    assert open_dataset(reference, role="calibration", base=base).digest != before
    (base / "numbers.txt").unlink()
    with pytest.raises(DataError, match=r"numbers\.txt: No such file"):
        open_dataset(reference, role="calibration", base=base)


def test_without_declared_files_the_samples_make_the_digest(base: Path, describe: Describe) -> None:
    reference = describe(loader="mine.py:pairs")
    before = open_dataset(reference, role="calibration", base=base).digest
    assert open_dataset(reference, role="calibration", base=base).digest == before
    (base / "mine.py").write_text(CODE.replace("i % 2", "i % 3"), encoding="utf-8")
    assert open_dataset(reference, role="calibration", base=base).digest != before


def test_labels_count_to_the_last_value(base: Path, describe: Describe) -> None:
    code = "import numpy as np\ndef long(last=0):\n    return [(np.zeros(3), np.append(np.zeros(2000, int), last))]\n"
    (base / "mine.py").write_text(code, encoding="utf-8")
    reference = describe(loader="mine.py:long")
    before = open_dataset(reference, role="calibration", base=base).digest
    (base / "mine.py").write_text(code.replace("last=0", "last=1"), encoding="utf-8")
    assert open_dataset(reference, role="calibration", base=base).digest != before


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("mine.py:pears", "no function 'pears'.*did you mean 'pairs'"),
        ("yours.py:pairs", "no such Python file"),
        ("mine.py", "names no function"),
        ("mine.py:breaks", "raised KeyError: 'lost'"),
        ("mine.py:wrong_shape", "sample 0 is ndarray, not"),
        ("mine.py:texts", "sample 0 is str, not"),
        ("mine.py:number", "returned int"),
        ("mine.py:of_file", "raised TypeError"),
        ("no_such_package_at_all:f", "does not import"),
    ],
)
def test_functions_that_do_not_keep_the_contract(base: Path, function: str, message: str) -> None:
    reader = Loader(function=function)
    with pytest.raises(DataError, match=message):
        list(reader.stream(base, range(reader.count(base))))


def test_nothing_is_executed_that_is_not_named(base: Path, describe: Describe) -> None:
    (base / "mine.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n", encoding="utf-8")
    np.savez(base / "a.npz", x=np.zeros((2, 2)))
    list(open_dataset(describe(read={"use": "npz", "path": "a.npz", "inputs": {"x": "x"}}), role="evaluation", base=base).batches())
    assert not (base / "ran").exists()
