from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.datasets import DataSet, TrainingSet
from edgekit.core.errors import DataError
from edgekit.data import check_disjoint, known_sets, open_dataset

from .conftest import Describe, picture, png, write_folder

X = np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3)
READ = {"use": "npz", "path": "a.npz", "inputs": {"input": "x"}, "labels": "y"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    np.savez(tmp_path / "a.npz", x=X, y=np.arange(20) % 3, other=X[::-1], mad=np.where(X == 33, np.nan, X.astype(np.float32)))
    return tmp_path


def opened(base: Path, reference: str, role: str = "evaluation", **options: Any) -> TrainingSet:
    return open_dataset(reference, role=role, base=base, **options)  # type: ignore[arg-type]


def rows_of(data: DataSet) -> list[int]:
    return [int(batch["input"][0].ravel()[0]) // 6 for batch, _ in data.batches()]


def test_batches_are_stacked_and_the_last_may_be_smaller(base: Path, describe: Describe) -> None:
    data = opened(base, describe(read=READ, classes=["a", "b", "c"]))
    batches = list(data.batches(8))
    assert [len(batch["input"]) for batch, _ in batches] == [8, 8, 4]
    np.testing.assert_array_equal(np.concatenate([batch["input"] for batch, _ in batches]), X)
    assert [label for _, labels in batches for label in labels] == [i % 3 for i in range(20)]
    assert (len(data), data.classes, data.metadata()) == (20, ("a", "b", "c"), [{}] * 20)


def test_a_limit_spreads_evenly(base: Path, describe: Describe) -> None:
    reference = describe(read=READ)
    assert [int(b["input"][0, 0, 0]) // 6 for b, _ in opened(base, reference).batches(1, limit=4)] == [0, 5, 10, 15]
    assert rows_of(opened(base, reference, limit=3)) == [0, 6, 13]
    assert len(opened(base, reference, limit=100)) == 20
    with pytest.raises(DataError, match="limited to 0"):
        opened(base, reference, limit=0)


def test_count_takes_a_seeded_subset_in_order(base: Path, describe: Describe) -> None:
    data = opened(base, describe(read=READ, rows=[5, 15], count=4, seed=3))
    wanted = np.sort(np.random.RandomState(3).permutation(10)[:4]) + 5
    assert rows_of(data) == wanted.tolist()
    assert rows_of(opened(base, describe(read=READ, rows=[5, 15], count=4, seed=4))) != wanted.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"count": 21}, "count is 21, there are 20"),
        ({"rows": [10, 21]}, "rows end at 21, there are 20"),
        ({"rows": [5, 5]}, "rows must be"),
        ({"read": {**READ, "use": "npy"}}, "unknown plugin 'npy'.*did you mean 'npz'"),
        ({"read": {**READ, "lables": "y"}}, "unknown key 'lables'.*did you mean 'labels'"),
        ({"read": {}}, "either 'read' or 'loader'"),
        ({"loader": "a.py:f"}, "either 'read' or 'loader'"),
        ({"preproces": {}}, "unknown key 'preproces'.*did you mean 'preprocess'"),
        ({"preprocess": {"men": 1}}, "unknown key 'preprocess.men'.*did you mean 'mean'"),
        ({"preprocess": {"layout": "chw"}}, "nchw"),
        ({"splits": {"a": {"cuont": 3}}}, "unknown key 'splits.a.cuont'.*did you mean 'count'"),
        ({"classes": ["a", "b", "a"]}, "class 'a' stands twice"),
        ({"classes": "no-such-file.txt"}, "list of classes can't be read"),
        ({"schema": 2}, "schema"),
    ],
)
def test_wrong_descriptions_are_refused(base: Path, describe: Describe, content: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(base, describe(**{"read": READ, **content}))


def test_a_description_without_a_schema_is_refused(base: Path) -> None:
    (base / "old.yaml").write_text("read: {use: npz}\n", encoding="utf-8")
    with pytest.raises(DataError, match="'schema' is missing"):
        opened(base, "old.yaml")


SPLITS = {
    "calibration": {"rows": [0, 5]},
    "evaluation": {"rows": [5, 20], "preprocess": {"scale": 2, "layout": "as-is"}},
    "mirror": {"read": {"inputs": {"input": "other"}}},
}


def test_the_split_named_like_the_role_is_taken(base: Path, describe: Describe) -> None:
    reference = describe(read=READ, splits=SPLITS)
    assert rows_of(opened(base, reference, "calibration")) == [0, 1, 2, 3, 4]
    evaluation = opened(base, reference, "evaluation")
    assert evaluation.name == "set0:evaluation"
    np.testing.assert_array_equal(next(evaluation.batches())[0]["input"][0], X[5] * np.float32(2))
    assert rows_of(opened(base, f"{reference}:mirror")) == list(range(19, -1, -1))


def test_a_split_of_another_reader_replaces_all_options(base: Path, describe: Describe) -> None:
    write_folder(base / "photos", {f"{i}.png": png(picture(i)) for i in range(3)})
    data = opened(base, describe(read=READ, splits={"calibration": {"read": {"use": "images", "path": "photos"}}}), "calibration")
    assert (len(data), next(data.batches())[0]["input"].shape, next(data.batches())[1]) == (3, (1, 12, 10, 3), [None])


def test_unknown_splits_name_the_known(base: Path, describe: Describe) -> None:
    reference = describe(read=READ, splits={"train": {}, "test": {}})
    with pytest.raises(DataError, match="no split 'evaluation', only: train, test"):
        opened(base, reference)
    with pytest.raises(DataError, match=r"no split 'tset'.*did you mean 'test'"):
        opened(base, f"{reference}:tset")
    with pytest.raises(DataError, match="it has no splits"):
        opened(base, f"{describe(read=READ)}:train")


def test_references(base: Path, describe: Describe) -> None:
    describe(read=READ, name="named")
    assert opened(base, "set0.yaml").name == "named"
    assert "digits" in known_sets()
    with pytest.raises(DataError, match=r"no data set is called 'digit'.*did you mean 'digits'"):
        opened(base, "digit")
    with pytest.raises(DataError, match=r"gone\.yaml: no such file"):
        opened(base, "gone.yaml")
    with pytest.raises(DataError, match="described by a YAML file"):
        opened(base, "./a.npz")


def test_class_names_from_a_file_and_numbers_from_one(base: Path, describe: Describe) -> None:
    (base / "names.txt").write_text("zero\none\n\ntwo\n", encoding="utf-8")
    data = opened(base, describe(read=READ, classes="names.txt"))
    assert data.classes == ("zero", "one", "two")
    with pytest.raises(DataError, match="sample 0 has label 0, labels go from 1 to 3"):
        list(opened(base, describe(read=READ, classes="names.txt", first_label=1)).batches())
    with pytest.raises(DataError, match="sample 2 has label 2, labels go from 0 to 1"):
        list(opened(base, describe(read=READ, classes=["a", "b"])).batches())


@pytest.mark.parametrize(
    ("labels", "options", "found"),
    [
        (["b", "a", "2"], {"classes": ["a", "b", "c"]}, [1, 0, 2]),
        (["1", "3", "2"], {"classes": ["a", "b", "c"], "first_label": 1}, [0, 2, 1]),
        (["4", "3", "4"], {}, [4, 3, 4]),
        (["7", "8", "9"], {"classes": ["9", "8", "7"]}, [2, 1, 0]),
    ],
)
def test_text_labels(
    tmp_path: Path, describe: Describe, bert_folder: Path, labels: list[str], options: dict[str, Any], found: list[int]
) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"good film\t{label}\n" for label in labels), encoding="utf-8")
    read = {"use": "text", "path": "a.tsv", "text": 0, "label": 1}
    data = opened(tmp_path, describe(read=read, tokenize={"length": 8}, **options), model=bert_folder)
    assert [label for _, batch in data.batches(2) for label in batch] == found


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("dgo", {"classes": ["dog", "cat"]}, "label 'dgo', which is no class.*did you mean 'dog'"),
        ("dog", {}, "label 'dog', no classes are listed"),
        ("-1", {}, "label -1, labels go from 0"),
        ("1.5", {}, "label '1.5', no classes"),
    ],
)
def test_labels_that_are_no_class(
    tmp_path: Path, describe: Describe, bert_folder: Path, label: str, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.tsv").write_text(f"good film\t{label}\n", encoding="utf-8")
    read = {"use": "text", "path": "a.tsv", "text": 0, "label": 1}
    with pytest.raises(DataError, match=message):
        list(opened(tmp_path, describe(read=read, tokenize={"length": 8}, **options), model=bert_folder).batches())


@pytest.mark.parametrize("labels", [np.eye(3), np.array([0.5, 1, 2]), np.array([0, np.nan, 1])])
def test_labels_that_are_no_whole_numbers(tmp_path: Path, describe: Describe, labels: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), y=labels)
    with pytest.raises(DataError, match="not a class"):
        list(opened(tmp_path, describe(read=READ)).batches())


def test_true_and_false_are_classes_one_and_zero(tmp_path: Path, describe: Describe) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), y=np.array([True, False, True]))
    assert next(opened(tmp_path, describe(read=READ)).batches(3))[1] == [1, 0, 1]


def test_a_folder_tree_brings_its_own_classes(tmp_path: Path, describe: Describe) -> None:
    write_folder(tmp_path / "photos", {"dog/a.png": png(picture(0)), "cat/b.png": png(picture(1))})
    read = {"use": "images", "path": "photos", "labels": "folders"}
    data = opened(tmp_path, describe(read=read))
    assert (data.classes, [labels for _, labels in data.batches()]) == (("cat", "dog"), [[0], [1]])
    other = opened(tmp_path, describe(read=read, classes=["dog", "cat"]))
    assert [labels for _, labels in other.batches()] == [[1], [0]]


def test_samples_that_no_model_can_take(base: Path, describe: Describe) -> None:
    with pytest.raises(DataError, match="sample 5 holds NaN or infinite"):
        list(opened(base, describe(read={**READ, "inputs": {"input": "mad"}})).batches())
    write_folder(base / "photos", {"a.png": png(picture(0, 4, 4)), "b.png": png(picture(1, 6, 4))})
    photos = opened(base, describe(read={"use": "images", "path": "photos"}))
    assert len(list(photos.batches(1))) == 2
    with pytest.raises(DataError, match=r"different shapes, \[4, 4, 3\] and \[6, 4, 3\].*resize"):
        list(photos.batches(2))
    with pytest.raises(DataError, match="a crop of 5x5 does not fit into 4x4"):
        list(opened(base, describe(read={"use": "images", "path": "photos"}, preprocess={"crop": 5})).batches())


def test_an_empty_set_is_refused(tmp_path: Path, describe: Describe) -> None:
    write_folder(tmp_path / "photos", {"a.png": png(picture(0))})
    with pytest.raises(DataError, match="holds no samples"):
        opened(tmp_path, describe(read={"use": "images", "path": "photos", "pattern": "*.jpg"}))
    (tmp_path / "a.tsv").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no samples"):
        opened(tmp_path, describe(read={"use": "text", "path": "a.tsv", "text": 0}))


def test_sha256_is_verified(base: Path, describe: Describe) -> None:
    right = hashlib.sha256((base / "a.npz").read_bytes()).hexdigest()
    data = opened(base, describe(read=READ, sha256={"a.npz": right.upper()}))
    assert data.provenance["files"] == {"a.npz": right}
    with pytest.raises(DataError, match=rf"a\.npz: is not the file that data set set1 describes \(sha256 {right[:12]}"):
        opened(base, describe(read=READ, sha256={"a.npz": "0" * 64}))
    with pytest.raises(DataError, match=rf"says nothing about a\.npz.*{right}"):
        opened(base, describe(read=READ, sha256={"b.npz": right}))


def test_a_changed_file_is_noticed_in_the_same_process(base: Path, describe: Describe) -> None:
    reference = describe(read=READ)
    before = opened(base, reference).digest
    np.savez(base / "a.npz", x=X + 1, y=np.arange(20) % 3)
    os.utime(base / "a.npz", ns=(1, 1))
    assert opened(base, reference).digest != before


def test_missing_files_say_where_to_get_them(base: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(base / "packs"))
    read = {**READ, "path": "${EDGEKIT_DATA}/a.npz"}
    with pytest.raises(DataError, match=r"set EDGEKIT_DATA to the folder.*packs.*or fetch it from https://example.org"):
        opened(base, describe(read=read, origin={"url": "https://example.org"}))
    with pytest.raises(DataError, match="correct 'path'"):
        opened(base, describe(read={**READ, "path": "b.npz"}))


def test_the_digest_follows_what_decides_the_samples_and_nothing_else(base: Path, describe: Describe) -> None:
    def of(**content: Any) -> str:
        return opened(base, describe(**{"read": READ, **content})).digest

    plain = of()
    assert of() == plain
    assert of(title="T", description="D", origin={"notes": "N"}) == plain
    changes: list[dict[str, Any]] = [
        {"count": 5}, {"count": 5, "seed": 1}, {"rows": [0, 9]}, {"preprocess": {"layout": "as-is"}}, {"classes": ["a", "b", "c"]},
        {"first_label": -1}, {"read": {**READ, "inputs": {"input": "other"}}},
    ]  # fmt: skip
    digests = {plain, *(of(**change) for change in changes)}
    assert len(digests) == 8
    assert opened(base, describe(read=READ), limit=5).digest not in digests


def test_the_same_picture_under_another_name_coincides(tmp_path: Path, describe: Describe) -> None:
    write_folder(tmp_path / "one", {f"{i}.png": png(picture(i)) for i in range(4)})
    write_folder(tmp_path / "two", {f"x{i}.png": png(picture(i)) for i in range(3, 8)})
    one, two = (opened(tmp_path, describe(read={"use": "images", "path": name, "input": name})) for name in ("one", "two"))
    assert len(set(one.sample_digests())) == 4
    with pytest.raises(DataError, match="1 of 5 samples of set1 stand in set0 too, first number 0"):
        check_disjoint(one, two)
    check_disjoint(opened(tmp_path, describe(read={"use": "images", "path": "one", "pattern": "[012].png"})), two)


def test_the_same_text_with_another_label_coincides(tmp_path: Path, describe: Describe, bert_folder: Path) -> None:
    (tmp_path / "a.tsv").write_text("good film\t1\nbad\t0\n", encoding="utf-8")
    (tmp_path / "b.tsv").write_text("fine\t1\n good  film \t0\n", encoding="utf-8")
    read = {"use": "text", "text": 0, "label": 1}
    one, two = (opened(tmp_path, describe(read={**read, "path": f"{n}.tsv"}, tokenize={"length": 8}), model=bert_folder) for n in "ab")
    with pytest.raises(DataError, match="1 of 2 samples of set1 stand in set0 too, first number 1"):
        check_disjoint(one, two)


def test_metadata_of_every_sample(tmp_path: Path, describe: Describe) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), place=np.array(["river", "wood", "town"]))
    read = {"use": "npz", "path": "a.npz", "inputs": {"x": "x"}, "metadata": {"place": "place"}}
    assert opened(tmp_path, describe(read=read)).metadata() == [{"place": "river"}, {"place": "wood"}, {"place": "town"}]


def test_provenance_is_plain_data(base: Path, describe: Describe) -> None:
    import json

    data = opened(base, describe(read=READ, count=7, seed=2, title="T", preprocess={"scale": "1/255"}))
    said = json.loads(json.dumps(data.provenance))
    assert (said["title"], said["samples"], said["stored"], said["count"], said["seed"]) == ("T", 7, 20, 7, 2)
    assert said["preprocess"]["scale"] == 1 / 255
    assert said["digest"] == data.digest


def drawn(data: TrainingSet, size: int, seed: int) -> list[tuple[int, int]]:
    batches = list(data.shuffled(size, seed))
    return [(int(row.ravel()[0]) // 6, label) for batch, labels in batches for row, label in zip(batch["input"], labels, strict=True)]


@pytest.mark.parametrize("block", [1, 5 * X[0].nbytes, 1 << 20], ids=["a batch at a time", "a few", "all at once"])
def test_shuffling_gives_every_sample_once_with_its_label(
    base: Path, describe: Describe, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.data._dataset.BLOCK_BYTES", block)
    data = opened(base, describe(read=READ, rows=[2, 19]))
    pairs = drawn(data, 4, seed=7)
    assert sorted(row for row, _ in pairs) == list(range(2, 19))
    assert all(label == row % 3 for row, label in pairs)
    assert pairs == drawn(data, 4, seed=7) != drawn(data, 4, seed=8)
    assert [len(labels) for _, labels in data.shuffled(4, 0)] == [4, 4, 4, 4, 1]


def test_the_order_does_not_depend_on_how_much_is_read_at_once(base: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = drawn(opened(base, describe(read=READ)), 4, seed=1)
    monkeypatch.setattr("edgekit.data._dataset.BLOCK_BYTES", 1)
    assert drawn(opened(base, describe(read=READ)), 4, seed=1) == wanted


def test_a_set_that_fits_one_block_is_read_once(base: Path, describe: Describe) -> None:
    data = opened(base, describe(read=READ))
    rest, held_out = data.parted(0.25, seed=0)
    wanted = [drawn(part, 4, seed=1) for part in (data, rest)]
    (base / "a.npz").unlink()
    assert [drawn(part, 4, seed=1) for part in (data, rest)] == wanted
    with pytest.raises(DataError, match=r"a\.npz"):
        drawn(held_out, 4, seed=1)


def test_parts_share_nothing_and_are_the_whole(base: Path, describe: Describe) -> None:
    data = opened(base, describe(read=READ))
    rest, held_out = data.parted(0.25, seed=0)
    assert (len(rest), len(held_out)) == (15, 5)
    assert sorted(rows_of(rest) + rows_of(held_out)) == list(range(20))
    assert len({data.digest, rest.digest, held_out.digest}) == 3
    assert rows_of(data.parted(0.25, seed=1)[1]) != rows_of(held_out) == rows_of(data.parted(0.25, seed=0)[1])
    assert [len(part) for part in data.parted(0.001, seed=0)] == [19, 1]
    with pytest.raises(DataError, match="one sample can't be divided"):
        opened(base, describe(read=READ, rows=[3, 4])).parted(0.5, seed=0)


def test_a_sequence_of_numbers_is_a_label_where_no_classes_are_listed(tmp_path: Path) -> None:
    tokens = np.arange(12).reshape(3, 4)
    np.savez(tmp_path / "t.npz", x=tokens, y=tokens)
    text = "schema: 1\nread: {use: npz, path: t.npz, inputs: {ids: x}, labels: y}\n"
    (tmp_path / "plain.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "classes.yaml").write_text(text + "classes: [a, b]\n", encoding="utf-8")
    (_, labels) = next(open_dataset("plain.yaml", role="evaluation", base=tmp_path).batches(2))
    np.testing.assert_array_equal(labels, tokens[:2])
    with pytest.raises(DataError, match="not a class"):
        next(open_dataset("classes.yaml", role="evaluation", base=tmp_path).batches(2))
