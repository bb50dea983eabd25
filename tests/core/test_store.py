from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from edgekit.core.errors import OutputError
from edgekit.core.store import RECORD, StageKey, Store


def key(**options: int) -> StageKey:
    return StageKey("test", "core.store", options)


def write(text: str):
    def make(out: Path) -> None:
        (out / "result.txt").write_text(text)

    return make


def test_second_request_uses_the_stored_result(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.stage(key(a=1), write("one"))
    second = store.stage(key(a=1), write("two"))
    assert (first.cached, second.cached) == (False, True)
    assert second.path == first.path
    assert (second.path / "result.txt").read_text() == "one"


@pytest.mark.parametrize(
    "other",
    [
        StageKey("test", "core.store", {"a": 2}),
        StageKey("test", "core.store", {"a": 1}, {"model": "x"}),
        StageKey("test", "core.errors", {"a": 1}),
        StageKey("test", "core.store", {"a": 1}, packages=("numpy",)),
    ],
)
def test_options_inputs_code_and_versions_change_the_key(tmp_path: Path, other: StageKey) -> None:
    store = Store(tmp_path)
    assert store.stage(key(a=1), write("one")).key != store.stage(other, write("one")).key


def test_failed_stage_leaves_nothing(tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        (out / "half").write_text("half")
        raise ValueError("broken")

    store = Store(tmp_path)
    with pytest.raises(ValueError, match="broken"):
        store.stage(key(), fail)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert not store.stage(key(), write("whole")).cached


def test_truncated_result_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.stage(key(), write("whole")).path
    (path / "result.txt").write_text("")
    again = store.stage(key(), write("whole"))
    assert not again.cached
    assert (again.path / "result.txt").read_text() == "whole"


def test_leftovers_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    def look(out: Path) -> None:
        Store(tmp_path)
        seen.append((dead.exists(), out.exists()))
        (out / "result.txt").write_text("x")

    seen: list[tuple[bool, bool]] = []
    store = Store(tmp_path)
    dead = tmp_path / "objects" / ".tmp-0123abcd"
    dead.mkdir()
    store.stage(key(), look)
    assert seen == [(False, True)]


def test_two_makers_of_one_key_both_succeed(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def slow(out: Path) -> None:
        store.stage(key(), write("same"))
        (out / "result.txt").write_text("same")

    result = store.stage(key(), slow)
    assert (result.path / "result.txt").read_text() == "same"
    assert list((tmp_path / "objects").glob(".tmp-*")) == []


def test_record_names_everything_that_decides(tmp_path: Path) -> None:
    path = Store(tmp_path).stage(StageKey("export", "exporters.onnx", {"opset": 20}, {"checkpoint": "abc"}, ("numpy",)), write("x")).path
    record = json.loads((path / RECORD).read_text())
    assert record["key"]["options"] == {"opset": 20}
    assert record["key"]["packages"]["numpy"] != "absent"
    assert record["files"] == {"result.txt": 1}


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "can't be written")])
def test_disk_trouble_is_an_output_error(tmp_path: Path, number: int, words: str) -> None:
    def full(out: Path) -> None:
        raise OSError(number, os.strerror(number), str(out / "result.txt"))

    with pytest.raises(OutputError, match=words):
        Store(tmp_path).stage(key(), full)


def test_other_os_errors_are_not_blamed_on_the_disk(tmp_path: Path) -> None:
    def missing(out: Path) -> None:
        (out / "absent").read_text()

    with pytest.raises(FileNotFoundError):
        Store(tmp_path).stage(key(), missing)
