from __future__ import annotations

import io
import json

import pytest

from edgekit.agent import archive, disk, install, slots
from edgekit.agent.refusal import Refused


def test_the_first_model_is_current_on_trial_and_then_good(device, forge):
    answer = device.flash(forge.bundle(1))
    model = device.open()
    assert answer["active"]
    assert (model.current, model.state.trial, model.state.good) == (answer["slot"], answer["slot"], None)
    assert device.serves() == 1
    model.approve()
    assert (model.state.good, model.state.trial, model.state.floor) == (answer["slot"], None, 1)


def test_a_model_that_is_never_marked_good_is_given_up_after_three_starts(device, forge):
    device.flash(forge.bundle(1), good=True)
    device.flash(forge.bundle(2))
    good = device.open().state.good
    for _ in range(slots.STARTS):
        assert device.open().start().startswith("2-")
    assert device.open().start() == good
    assert device.serves() == 1
    assert device.open().journal()[-1]["why"] == "3 starts without being marked good"
    for _ in range(5):
        assert device.open().start() == good


def test_a_first_model_has_nothing_to_fall_back_to(device, forge):
    slot = device.flash(forge.bundle(1))["slot"]
    for _ in range(6):
        assert device.open().start() == slot


def test_back_goes_from_trial_to_good_and_from_good_to_the_one_before(device, forge):
    device.flash(forge.bundle(1), good=True)
    device.flash(forge.bundle(2), good=True)
    device.flash(forge.bundle(3))
    assert device.open().back().startswith("2-")
    assert device.open().back().startswith("1-")
    assert device.serves() == 1
    with pytest.raises(Refused, match="no earlier good model"):
        device.open().back()


def test_back_refuses_a_damaged_slot(device, forge):
    device.flash(forge.bundle(1), good=True)
    device.flash(forge.bundle(2))
    good = device.open().path(device.open().state.good)
    (good / "model/toy.onnx").write_bytes(b"rotten")
    with pytest.raises(Refused, match="damaged"):
        device.open().back()
    assert device.serves() == 2


def test_after_a_rollback_the_newer_good_one_can_come_back_and_nothing_between(device, forge):
    newer = forge.bundle(5)
    device.flash(forge.bundle(1), good=True)
    device.flash(newer, good=True)
    device.open().back()
    with pytest.raises(Refused, match="older than 5"):
        device.flash(forge.bundle(4))
    device.flash(newer)
    assert device.serves() == 5


def test_slots_that_are_neither_current_nor_good_are_collected(device, forge):
    for version in (1, 2, 3, 4):
        device.flash(forge.bundle(version), good=version < 3)
    kept = sorted(path.name for path in device.open().slots.iterdir())
    device.flash(forge.bundle(5))
    assert [name[:2] for name in kept] == ["1-", "2-", "3-", "4-"]
    assert [name[:2] for name in sorted(path.name for path in device.open().slots.iterdir())] == ["1-", "2-", "4-", "5-"]


def store(device, data):
    """Let in a bundle without trying it."""
    return install.install_file(device.installer(), io.BytesIO(data), activate=False)["slot"]


def test_only_what_was_stored_and_not_tried_is_activated(device, forge):
    device.flash(forge.bundle(1), good=True)
    device.flash(forge.bundle(2))
    device.open().back()
    with pytest.raises(Refused, match="nothing of 'toy' waits"):
        device.installer().activate_stored("toy")
    device.flash(forge.bundle(2))
    slot = store(device, forge.bundle(3))
    device.open().approve()
    assert device.installer().activate_stored("toy")["slot"] == slot
    device.open().back()
    with pytest.raises(Refused, match="nothing of 'toy' waits"):
        device.installer().activate_stored("toy")


def test_a_stored_slot_is_used_by_the_next_flash_of_its_bundle(device, forge, monkeypatch):
    data = forge.bundle(1)
    store(device, data)
    monkeypatch.setattr(disk, "free", lambda path: 0)
    assert device.installer().offer(archive.read_envelope(io.BytesIO(data))).missing == {}
    device.flash(data)
    assert device.serves() == 1


def test_flashing_the_last_good_one_over_a_trial_returns_to_it(device, forge):
    first = forge.bundle(1)
    device.flash(first, good=True)
    device.flash(forge.bundle(2))
    device.flash(first)
    assert device.serves() == 1
    assert device.open().state.trial is None


def test_flashing_again_repairs_a_damaged_current_slot(device, forge):
    data = forge.bundle(1)
    slot = device.flash(data, good=True)["slot"]
    assert device.flash(data)["already"]
    (device.open().path(slot) / "labels.txt").write_bytes(b"rotten")
    assert not device.flash(data)["already"]
    assert device.serves() == 1


def test_a_link_that_was_lost_is_mended(device, forge):
    device.flash(forge.bundle(1), good=True)
    (device.home / "models/toy/current").unlink()
    device.open()
    assert device.serves() == 1


def test_a_torn_journal_line_is_left_out_and_the_next_one_kept(device, forge):
    device.flash(forge.bundle(1), good=True)
    journal = device.home / "models/toy/journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    device.open().note("next")
    assert [event["event"] for event in device.open().journal()] == ["stored", "switched", "next"]


def test_a_long_journal_loses_its_older_half(device, forge, monkeypatch):
    monkeypatch.setattr(slots, "_JOURNAL_LIMIT", 2000)
    device.flash(forge.bundle(1))
    for number in range(100):
        device.open().note("event", number=number)
    events = device.open().journal(1000)
    assert events[-1]["number"] == 99
    assert len((device.home / "models/toy/journal.jsonl").read_bytes()) < 3000


def test_a_damaged_state_is_told_and_the_current_model_stays(device, forge):
    device.flash(forge.bundle(1), good=True)
    (device.home / "models/toy/state.json").write_text(json.dumps({"schema": 1, "odd": 1}))
    with pytest.raises(Refused, match=r"state\.json is damaged"):
        device.open()
    assert device.serves() == 1


@pytest.mark.parametrize("name", ["../toy", "/etc", "", ".", "a/b", "TOY"])
def test_names_that_lead_elsewhere(device, name):
    with pytest.raises(Refused, match="is no name of a model"):
        device.open(name)


def test_a_model_that_is_not_there(device):
    with pytest.raises(Refused, match="no model 'other'"):
        device.open("other")
