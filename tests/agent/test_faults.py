"""The power fails, the disk fills up or the connection breaks at every step: the device serves a whole model, and the next flash works."""

from __future__ import annotations

import dataclasses
import errno
import functools
import io
import itertools
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.agent import archive, canonical, disk, ed25519, serve, slots, wire
from edgekit.agent.app import Application
from edgekit.agent.refusal import Refused

CHANGES = ("open", "write", "fsync", "rename", "replace", "symlink", "unlink", "mkdir", "rmdir")
"""System calls after which the disk may be another; all that the agent does to it goes through them."""
HARM = ("killed", "names lost", "data lost")
"""A process that ends; a power cut that loses every name that was not flushed, or every content that was not."""


@dataclasses.dataclass
class Name:
    """A name that was made or changed, and what stood there before; lost in a power cut until its folder is flushed."""

    path: Path
    source: Path | None = None
    old: Path | bytes | None = None

    def undo(self) -> None:
        if not os.path.lexists(self.path):
            return
        if self.source is not None:
            self.path.rename(self.source)
        elif self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()
        if isinstance(self.old, bytes):
            self.path.write_bytes(self.old)
        elif self.old is not None:
            self.path.symlink_to(self.old)


class Disk:
    """Stands between the agent and :mod:`os`: counts steps, ends the process at one, and knows what a power cut would lose."""

    def __init__(self, moment: int, harm: str) -> None:
        self._steps = itertools.count()
        self._moment, self._harm = moment, harm
        self._real = {name: getattr(os, name) for name in CHANGES}
        self._paths: dict[int, Path] = {}
        self._dirty: set[Path] = set()
        self._names: list[Name] = []
        for name in CHANGES:
            setattr(os, name, getattr(self, f"_{name}"))

    def _step(self) -> None:
        if next(self._steps) == self._moment:
            self._end()

    def _end(self) -> None:
        for name, call in self._real.items():
            setattr(os, name, call)
        while self._harm == "names lost" and self._names:
            last = self._names.pop()
            last.undo()
            if last.source is not None:
                self._rebase(last.path, last.source)
        if self._harm == "data lost":
            for path in self._dirty:
                if path.is_file():
                    os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    def _rebase(self, source: Path, target: Path) -> None:
        def moved(path: Path) -> Path:
            return target / path.relative_to(source) if path.is_relative_to(source) else path

        self._dirty = {moved(path) for path in self._dirty}
        self._paths = {handle: moved(path) for handle, path in self._paths.items()}
        for name in self._names:
            name.path = moved(name.path)
            name.source = name.source and moved(name.source)

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if writes:
            self._step()
        place, new = Path(path), dir_fd is None and not os.path.lexists(path)
        handle: int = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        if dir_fd is None:
            self._paths[handle] = place
        if writes and new:
            self._names.append(Name(place))
        return handle

    def _write(self, handle: int, data: Any) -> int:
        self._dirty.add(self._paths.get(handle, Path()))
        if next(self._steps) == self._moment:
            self._real["write"](handle, bytes(data)[: len(data) // 2])
            self._end()
        return int(self._real["write"](handle, data))

    def _fsync(self, handle: int) -> None:
        self._step()
        place = self._paths.get(handle, Path())
        self._dirty.discard(place)
        self._names = [name for name in self._names if name.path.parent != place]

    def _rename(self, source: Any, target: Any) -> None:
        self._step()
        self._move("rename", Path(source), Path(target))

    def _replace(self, source: Any, target: Any) -> None:
        self._step()
        self._move("replace", Path(source), Path(target))

    def _move(self, call: str, source: Path, target: Path) -> None:
        old: Any = target.readlink() if target.is_symlink() else target.read_bytes() if target.is_file() else None
        self._real[call](source, target)
        self._rebase(source, target)
        self._names.append(Name(target, source, old))

    def _symlink(self, source: Any, target: Any) -> None:
        self._step()
        self._real["symlink"](source, target)
        self._names.append(Name(Path(target)))

    def _mkdir(self, path: Any, mode: int = 0o777) -> None:
        self._step()
        self._real["mkdir"](path, mode)
        self._names.append(Name(Path(path)))

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._step()
        self._real["unlink"](path, dir_fd=dir_fd)

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._step()
        self._real["rmdir"](path, dir_fd=dir_fd)


def broken_off(prepared: Path, work: Path, harm: str, action: Callable[[Path], object], stride: int = 1) -> Iterator[Path]:
    """Copies of a device on which an action was ended before its first, its second, ... change of the disk."""
    for moment in itertools.count(step=stride):
        home = work / f"{harm}-{moment}"
        shutil.copytree(prepared, home, symlinks=True)
        child = os.fork()
        if child == 0:
            try:
                Disk(moment, harm)
                action(home)
            except BaseException:  # noqa: BLE001 - a child process of pytest must end here
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL)
        if status == 0:
            assert moment > 3, "nothing was ended"
            return
        yield home
        shutil.rmtree(home)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here outlives a real power cut, so nothing waits for a real disk; and a signature is computed once."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(ed25519, "verify", functools.cache(ed25519.verify))


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where a thousand small changes take no time."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def prepared(device, forge):
    """A device whose version 1 is good, whose version 2 was left for 3, and whose version 3 is on trial."""
    device.flash(forge.bundle(1), good=True)
    device.flash(forge.bundle(2))
    device.flash(forge.bundle(3))
    return device.home


def recovers(device: Any, forge: Any, may_serve: tuple[int, ...], then: int = 4) -> None:
    """The device serves a whole model at once, after mending, and after the next flash; nothing half-made is left."""
    assert device.serves() in may_serve
    device.open()
    assert device.serves() in may_serve
    device.flash(forge.bundle(then), good=True)
    assert device.serves() == then
    model = device.open()
    assert model.intact(model.current)
    assert not [path for path in device.home.rglob("*") if path.name.startswith(".")]
    assert not (device.home / "incoming").exists()
    assert model.back() != model.state.before


@pytest.mark.parametrize("harm", HARM)
def test_an_update_that_ends_at_any_step_leaves_the_old_or_the_new_model(prepared, forge, tmp_path, harm):
    data = forge.bundle(4)
    count = 0
    for home in broken_off(prepared, tmp_path, harm, lambda home: forge.Device(home).flash(data, good=True)):
        recovers(forge.Device(home), forge, (3, 4))
        count += 1
    assert count > 60


def test_a_first_install_that_ends_at_any_step_can_be_done_again(forge, tmp_path):
    empty = tmp_path / "device"
    empty.mkdir()

    def first(home: Path) -> None:
        device = forge.Device(home, trusted=forge.root())
        device.flash(forge.bundle(1), good=True)

    for home in broken_off(empty, tmp_path, "names lost", first, stride=2):
        device = forge.Device(home)
        if (home / "models/toy/current").exists():
            assert device.serves() == 1
        forge.Device(home, trusted=forge.root()).flash(forge.bundle(2), good=True)
        assert device.serves() == 2


@pytest.mark.parametrize("action", ["back", "approve", "start", "collect", "give up"])
def test_every_other_change_may_end_at_any_step(prepared, forge, tmp_path, action):
    def act(home: Path) -> None:
        model = forge.Device(home).open()
        if action == "give up":
            for _ in range(4):
                model.start()
        else:
            getattr(model, action)()

    for home in broken_off(prepared, tmp_path, "names lost", act):
        recovers(forge.Device(home), forge, (1, 3))


def test_a_new_root_that_ends_at_any_step_is_the_old_or_the_new_one(prepared, forge, tmp_path):
    newer = forge.root(2, root_keys=(forge.BOB,), bundle_keys=(forge.ALICE,), signers=(forge.ALICE, forge.BOB))
    for home in broken_off(prepared, tmp_path, "names lost", lambda home: forge.Device(home).installer().enrol(newer)):
        device = forge.Device(home)
        assert device.installer().root()["signed"]["version"] in (1, 2)
        device.flash(forge.bundle(4, roots=[newer]))
        assert device.installer().root() == newer


def test_a_full_disk_at_every_step_is_told_and_leaves_what_was(prepared, forge, tmp_path, monkeypatch):
    data = forge.bundle(4)
    for moment in itertools.count():
        home = tmp_path / f"full-{moment}"
        shutil.copytree(prepared, home, symlinks=True)
        device = forge.Device(home)
        steps = itertools.count()
        with monkeypatch.context() as patch:
            for name in ("open", "write", "mkdir", "symlink", "rename", "replace"):
                patch.setattr(os, name, full(getattr(os, name), name, steps, moment))
            refused = attempt(device, data)
        if refused is None:
            break
        assert refused.kind == "space"
        recovers(device, forge, (3, 4))
        shutil.rmtree(home)
    assert moment > 30


def test_a_disk_that_is_full_at_the_first_install_is_left_without_empty_folders(forge, tmp_path, monkeypatch):
    data = forge.bundle(1)
    for moment in itertools.count():
        device = forge.Device(tmp_path / f"first-{moment}", trusted=forge.root())
        steps = itertools.count()
        with monkeypatch.context() as patch:
            for name in ("open", "write", "mkdir", "symlink", "rename", "replace"):
                patch.setattr(os, name, full(getattr(os, name), name, steps, moment))
            refused = attempt(device, data)
        if refused is None:
            break
        assert refused.kind == "space"
        assert not [path for path in device.home.rglob("*") if path.is_dir() and not any(path.iterdir())]
        device.flash(data, good=True)
        assert device.serves() == 1
    assert moment > 30


def test_a_disk_that_fills_up_while_the_slot_is_assembled_costs_nothing_that_was_sent(device, forge, monkeypatch):
    device.flash(forge.bundle(1), good=True)
    data = forge.bundle(2)
    stream, ends = conversation(data)
    serve.serve(device.home, io.BytesIO(stream[: ends[-2]]), io.BytesIO(), device.installer())
    sent = sorted(path.name for path in (device.home / "incoming").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_new", full(disk.write_new, "write_new", itertools.count(), 2))
        assert attempt(device, data).kind == "space"
    assert sorted(path.name for path in (device.home / "incoming").iterdir()) == sent != []
    assert not list(device.open().slots.glob(".new-*"))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("starts", range(slots.STARTS + 1))
def test_an_application_starts_where_nothing_can_be_written(prepared, monkeypatch, error, starts):
    for _ in range(starts):
        slots.start(prepared, "toy")
    with monkeypatch.context() as patch:
        for name in ("open", "write", "symlink", "replace"):
            patch.setattr(os, name, full(getattr(os, name), name, itertools.count(), 0, error))
        assert slots.start(prepared, "toy").name.startswith("3-")
        application = Application(str(prepared), "toy")
        application.folder = (prepared / "models/toy/current").resolve()
        assert not application.mark_good()
    assert slots.start(prepared, "toy").name[:2] == ("1-" if starts == slots.STARTS else "3-")


def test_a_rollback_on_a_full_disk_tells_what_it_did(prepared, forge, tmp_path, monkeypatch):
    told = set()
    for moment in itertools.count():
        home = tmp_path / f"full-{moment}"
        shutil.copytree(prepared, home, symlinks=True)
        device = forge.Device(home)
        model, steps, refused = device.open(), itertools.count(), None
        with monkeypatch.context() as patch:
            for name in ("open", "write", "symlink", "replace"):
                patch.setattr(os, name, full(getattr(os, name), name, steps, moment))
            try:
                model.back()
            except Refused as problem:
                refused = problem
            except OSError as problem:
                refused = disk.refusal(problem)
        assert device.serves() == (1 if refused is None or "is back at 1-" in refused.message else 3)
        told.add(refused and refused.message.partition(" ")[0])
        recovers(device, forge, (1, 3))
        shutil.rmtree(home)
        if refused is None and next(steps) < moment:
            break
    assert len(told) > 2


def attempt(device: Any, data: bytes) -> Refused | None:
    try:
        device.flash(data)
    except OSError as problem:
        return disk.refusal(problem)
    return None


def full(call: Callable[..., Any], name: str, steps: Iterator[int], moment: int, error: int = errno.ENOSPC) -> Callable[..., Any]:
    """A system call on a disk that is full, or fails otherwise, from some step on; what only frees space still works."""

    def refuse(*given: Any, **more: Any) -> Any:
        grows = name != "open" or given[1] & os.O_CREAT
        if grows and next(steps) >= moment:
            raise OSError(error, os.strerror(error), str(given[0]))
        return call(*given, **more)

    return refuse


def conversation(data: bytes) -> tuple[bytes, list[int]]:
    """What a host sends to flash a bundle to a device that has none of its files, and where its frames end."""
    source = io.BytesIO(data)
    front = archive.read_envelope(source)
    files = canonical.decode(front.manifest, "manifest")["files"]
    sink, ends = io.BytesIO(), []

    def say(header: dict[str, Any], body: bytes = b"") -> None:
        wire.send(sink, header, body)
        ends.append(sink.tell())

    say({"command": "offer", "here": True, **{name: getattr(front, name).decode() for name in front._fields}})
    for path, chunks in archive.read_files(source, files):
        content = b"".join(chunks)
        say({"command": "file", "sha256": files[path]["sha256"], "size": len(content)})
        for start in range(0, len(content), 400):
            say({"command": "more"}, content[start : start + 400])
    say({"command": "finish", "activate": True, "approve": False})
    return sink.getvalue(), ends


def test_a_connection_that_breaks_anywhere_leaves_what_was_and_the_next_one_goes_on(prepared, forge, tmp_path):
    files = {path: data + path.encode() for path, data in forge.contents(4).items()}  # nothing that an older slot holds
    data = forge.bundle(4, files=files)
    stream, ends = conversation(data)
    for number, cut in enumerate(sorted({*ends[:-1], *(end - 7 for end in ends), *(end + 5 for end in ends[:-1])})):
        home = tmp_path / f"cut-{number}"
        shutil.copytree(prepared, home, symlinks=True)
        device = forge.Device(home)
        serve.serve(home, io.BytesIO(stream[:cut]), io.BytesIO(), device.installer())
        assert device.serves() == 3
        kept = sum(path.stat().st_size for path in (home / "incoming").iterdir()) if (home / "incoming").exists() else 0
        assert kept >= min(400, cut - ends[1]) // 2 if cut >= ends[2] else kept == 0
        recovers(device, forge, (3,))
        shutil.rmtree(home)
    assert number > 30


def test_a_cut_that_nobody_is_told_of_lets_the_lock_go(device, forge):
    stream, ends = conversation(forge.bundle(1))
    source, sink = os.pipe()
    try:
        os.write(sink, stream[: ends[2]])
        assert serve.serve(device.home, wire.Line(source, 0.05), io.BytesIO(), device.installer()) == 1
        device.flash(forge.bundle(1))
    finally:
        os.close(source)
        os.close(sink)


def test_what_was_sent_before_a_cut_is_not_asked_for_again(device, forge):
    data = forge.bundle(1)
    stream, ends = conversation(data)
    serve.serve(device.home, io.BytesIO(stream[: ends[5]]), io.BytesIO(), device.installer())
    sink = io.BytesIO()
    serve.serve(device.home, io.BytesIO(stream[: ends[0]]), sink, device.installer())
    sink.seek(0)
    answer = wire.receive(sink)[0]
    assert sum(answer["missing"].values()) == sum(path.stat().st_size for path in (device.home / "incoming").iterdir()) > 0


def test_two_agents_at_once_are_refused(device, forge):
    with disk.alone(device.home / "lock"):
        with pytest.raises(Refused, match="another agent is at work"), disk.alone(device.home / "lock", wait=0.1):
            pytest.fail("two at once")
        with pytest.raises(Refused, match="no current model"):
            slots.start(device.home, "toy")
    device.flash(forge.bundle(1))
    with disk.alone(device.home / "lock"):
        assert slots.start(device.home, "toy").name.startswith("1-")
    assert device.open().state.starts == 0
