"""Several at work on one device at once: what happens between a host's offer and its finish counts, and each is told what happened."""

from __future__ import annotations

import io
from typing import Any

import pytest

from edgekit.agent import archive, canonical, disk, serve, wire
from edgekit.agent.refusal import Refused


class Host:
    """One connection that flashes one bundle, step by step."""

    def __init__(self, device: Any, data: bytes) -> None:
        source = io.BytesIO(data)
        self._front = archive.read_envelope(source)
        told = canonical.decode(self._front.manifest, "manifest")
        self._files = {told["files"][path]["sha256"]: b"".join(chunks) for path, chunks in archive.read_files(source, told["files"])}
        self._line = io.BytesIO()
        self._service = serve.Service(device.home, self._line, device.installer())
        self._missing: dict[str, int] = {}

    def ask(self, command: str, **words: Any) -> Any:
        return self._service.answer({"command": command, **words}, b"")

    def offer(self) -> dict[str, Any]:
        front = {name: getattr(self._front, name).decode() for name in self._front._fields}
        answer: dict[str, Any] = self.ask("offer", here=True, **front)
        self._missing = answer["missing"]
        return answer

    def send(self) -> None:
        """Send what was asked for; all of it is read, or the next command would not be understood."""
        for sha256, have in self._missing.items():
            content = self._files[sha256][have:]
            self._line.seek(0)
            self._line.truncate()
            for start in range(0, len(content), 400):
                wire.send(self._line, {"command": "more"}, content[start : start + 400])
            self._line.seek(0)
            self.ask("file", sha256=sha256, size=len(content))
            assert wire.receive(self._line) is None

    def finish(self, *, approve: bool = False) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("finish", activate=True, approve=approve)
        return answer


@pytest.fixture
def host(device, forge):
    """Makes hosts that have a version of the toy, or of another model, for the device."""
    return lambda version, **changes: Host(device, forge.bundle(version, **changes))


def test_what_is_marked_good_while_files_arrive_stays_good(device, forge, host):
    device.flash(forge.bundle(1), good=True)
    second = device.flash(forge.bundle(2))["slot"]
    flash = host(3)
    flash.offer()
    flash.send()
    assert device.open().approve(second)
    third = flash.finish()["slot"]
    state = device.open().state
    assert (state.good, state.before[:2], state.trial, state.floor) == (second, "1-", third, 2)


def test_what_is_rolled_back_while_files_arrive_stays_rolled_back(device, forge, host):
    first = device.flash(forge.bundle(1), good=True)["slot"]
    device.flash(forge.bundle(2), good=True)
    flash = host(3)
    flash.offer()
    device.open().back()
    flash.send()
    flash.finish()
    assert device.open().back() == first


@pytest.mark.parametrize("approve", [False, True])
def test_a_slow_flash_does_not_undo_a_newer_one(device, forge, host, approve):
    device.flash(forge.bundle(1), good=True)
    slow, quick = host(2), host(3)
    slow.offer()
    slow.send()
    quick.offer()
    quick.send()
    newest = quick.finish(approve=True)["slot"]
    with pytest.raises(Refused, match="older than 3, which was good here"):
        slow.finish(approve=approve)
    assert (device.serves(), device.open().state.good, device.open().state.floor) == (3, newest, 3)


def test_two_hosts_with_one_bundle_both_succeed(device, host):
    first, second = host(1), host(1)
    first.offer()
    second.offer()
    second.send()
    first.send()
    assert not first.finish()["already"]
    assert second.finish(approve=True)["already"]
    assert device.open().state.good == device.open().current


def test_a_bundle_that_was_replaced_since_its_offer_is_tried_again(device, host):
    again, other = host(1), host(2)
    for step in (again.offer, again.send, again.finish):
        step()
    assert again.offer()["done"]
    other.offer()
    other.send()
    other.finish()
    assert not again.finish()["already"]
    assert device.serves() == 1


def test_what_another_flash_cleared_away_is_told(device, host):
    first = host(1)
    first.offer()
    first.send()
    host(1, name="other", model=b"other ").offer()
    with pytest.raises(Refused, match="another flash took its place") as found:
        first.finish()
    assert found.value.kind == "busy"
    first.offer()
    first.send()
    first.finish()
    assert device.serves() == 1


def test_the_rest_of_a_file_is_not_taken_for_its_beginning(device, host):
    cut, other = host(1), host(1)
    cut.offer()
    sha256 = max(cut._missing, key=lambda sha256: len(cut._files[sha256]))
    device.home.joinpath("incoming").mkdir()
    (device.home / "incoming" / f"{sha256}.part").write_bytes(cut._files[sha256][:400])
    assert cut.offer()["missing"][sha256] == 400
    other.offer()
    other.send()
    other.finish()
    with pytest.raises(Refused, match="another flash took its place"):
        cut.send()
    assert not [path for path in device.home.glob("incoming/*") if path.suffix == ".part"]


def test_the_status_is_told_while_another_agent_is_at_work(device, forge, host):
    device.flash(forge.bundle(1), good=True)
    with disk.alone(device.home / "lock"):
        assert host(2).ask("status")["models"]["toy"]["state"] == "good"
