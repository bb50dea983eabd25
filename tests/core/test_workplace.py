from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from edgekit.core import workplace as module
from edgekit.core.workplace import abandoned, move, put, restore, workplace


def fill(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a").write_text(text)
    (folder / "b").write_text(text)
    return folder


def content(folder: Path) -> str:
    texts = {(folder / name).read_text() for name in ("a", "b")}
    assert len(texts) == 1
    return texts.pop()


def steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(first: Path, second: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(module, "_exchange", refuse)


def test_a_workplace_is_gone_afterwards_and_obeys_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with workplace(tmp_path, ".tmp-") as folder:
            fill(folder, "x")
            assert folder.stat().st_mode & 0o777 == 0o750
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_only_what_nobody_works_in_is_abandoned(tmp_path: Path) -> None:
    names = (".tmp-01234567", ".tmp-89abcdef", ".tmp-mine", "tmp-01234567", ".tmp-012345678")
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".tmp-aaaaaaaa").touch()
    (tmp_path / ".tmp-bbbbbbbb").symlink_to(tmp_path / "tmp-01234567")
    with workplace(tmp_path, ".tmp-"):
        assert [p.name for p in abandoned(tmp_path, ".tmp-")] == [".tmp-01234567", ".tmp-89abcdef"]


def test_one_leftover_is_handed_to_one_process_only(tmp_path: Path) -> None:
    (tmp_path / ".tmp-01234567").mkdir()
    for _ in abandoned(tmp_path, ".tmp-"):
        assert list(abandoned(tmp_path, ".tmp-")) == []


def test_a_workplace_that_is_taken_for_abandoned_in_its_first_moment_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["0" * 8, "1" * 8])
    monkeypatch.setattr(module.secrets, "token_hex", lambda _: next(names))
    lock = module._lock

    def robbed(folder: Path, *, wait: bool) -> int | None:
        if folder.name.endswith("0"):
            shutil.rmtree(folder)
        return lock(folder, wait=wait)

    monkeypatch.setattr(module, "_lock", robbed)
    with workplace(tmp_path, ".tmp-") as folder:
        assert folder.name == ".tmp-11111111"
        assert folder.is_dir()


def test_move_takes_a_free_place_only(tmp_path: Path) -> None:
    assert move(fill(tmp_path / "one", "1"), tmp_path / "place")
    assert not move(fill(tmp_path / "two", "2"), tmp_path / "place")
    assert (content(tmp_path / "place"), content(tmp_path / "two")) == ("1", "2")


@pytest.mark.parametrize("exchange", [True, False])
def test_put_replaces_and_hands_back_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        steps_only(monkeypatch)
    put(fill(tmp_path / "first", "1"), tmp_path / "place")
    put(fill(tmp_path / "second", "2"), tmp_path / "place")
    assert (content(tmp_path / "place"), content(tmp_path / "second")) == ("2", "1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["place", "second"]


def test_a_file_in_the_way_is_an_error_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps_only(monkeypatch)
    fill(tmp_path / "place", "1")
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "absent", tmp_path / "place")
    assert content(tmp_path / "place") == "1"


def test_with_exchange_the_place_holds_the_old_or_the_new_at_every_moment(tmp_path: Path, killed) -> None:
    place = fill(tmp_path / "place", "1")
    seen = []
    for _ in killed(lambda: put(fill(tmp_path / "new", "2"), place)):
        seen.append(content(place))
        fill(place, "1")
    assert sorted(set(seen)) == ["1", "2"]
    assert content(place) == "2"


def test_without_exchange_the_next_start_brings_the_old_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed) -> None:
    steps_only(monkeypatch)
    place = fill(tmp_path / "place", "1")
    missing = 0
    for _ in killed(lambda: put(fill(tmp_path / "new", "2"), place)):
        missing += not place.exists()
        restore(place)
        assert content(place) in "12"
        assert not list(tmp_path.glob(".place.old-*"))
        fill(place, "1")
    assert missing
    assert content(place) == "2"
