"""Roll-outs: decided as batches, stopped by what is wrong with the model, not by what is wrong with a device."""

from __future__ import annotations

import pytest

from edgekit.agent import disk
from edgekit.cli.main import main
from edgekit.core.errors import DeviceError, SelfTestError, TargetError
from edgekit.deploy.connection import connect
from edgekit.deploy.flash import flash
from edgekit.deploy.fleet import DeviceOutcome, Entry, Inventory, Rollout, await_good, plan_batches, read_inventory, roll_out, verdict


def devices(count):
    return [Entry(name=f"d{number}", url=f"dir:///x/{number}") for number in range(count)]


def test_canaries_come_first_then_batches():
    fleet = devices(8)
    fleet[5] = fleet[5].model_copy(update={"canary": True})
    batches = plan_batches(fleet, Rollout(batch=3))
    assert [[device.name for device in batch] for batch in batches] == [["d5"], ["d0", "d1", "d2"], ["d3", "d4", "d6"], ["d7"]]
    assert [len(batch) for batch in plan_batches(devices(8), Rollout(canary=2, batch=4))] == [2, 4, 2]
    assert [len(batch) for batch in plan_batches(devices(2), Rollout(canary=5))] == [2]


@pytest.fixture
def fleet(tmp_path):
    """Four folders as devices; the third is a file, which no agent can live in."""
    (tmp_path / "d2").write_text("in the way")
    urls = [f"dir://{tmp_path}/d{number}" for number in range(4)]
    return Inventory(devices=tuple(Entry(name=url[-2:], url=url) for url in urls), rollout=Rollout(batch=2, parallel=2))


def test_a_good_model_reaches_all_that_can_be_reached(real, forge, fleet):
    heard = []
    found = roll_out(real(1), fleet, root=forge.root(), told=lambda outcome: heard.append(outcome.device))
    assert [device.outcome for device in found.devices] == ["updated", "updated", "unreachable", "updated"]
    assert (found.stopped, found.exit_code, sorted(heard)) == (None, 1, ["d0", "d1", "d2", "d3"])
    again = roll_out(real(1), fleet, root=forge.root())
    assert [device.outcome for device in again.devices] == ["already", "already", "unreachable", "already"]


def test_a_bad_model_stops_after_the_canary(real, forge, fleet, tmp_path):
    roll_out(real(1), fleet, root=forge.root(), approve=True)
    found = roll_out(real(2, off=4.0), fleet, root=forge.root())
    assert [device.outcome for device in found.devices] == ["failed", "not tried", "not tried", "not tried"]
    assert "1 failed by batch 0, 0 may" in found.stopped
    for number in (0, 1, 3):
        assert (tmp_path / f"d{number}/models/tiny/current").readlink().name.startswith("1-")


def test_as_many_may_fail_as_allowed():
    def done(*outcomes):
        return [DeviceOutcome(device="d", url="u", batch=1, outcome=outcome, reason="r") for outcome in outcomes]

    allowed = Rollout(max_failures=2)
    assert verdict(1, [], done("failed", "refused", "unreachable", "unreachable", "updated"), allowed) is None
    assert verdict(1, [], done("failed", "refused", "failed"), allowed) == "3 failed by batch 1, 2 may: r"
    assert verdict(1, done("unreachable"), done("unreachable"), allowed) is None


def test_a_first_batch_that_nobody_answers_proves_nothing(real, forge, tmp_path):
    (tmp_path / "off").write_text("x")
    entries = [Entry(name="off", url=f"dir://{tmp_path}/off"), Entry(name="on", url=f"dir://{tmp_path}/on")]
    found = roll_out(real(1), Inventory(devices=entries), root=forge.root())
    assert found.stopped == "no device of the first batch could be reached"
    assert [device.outcome for device in found.devices] == ["unreachable", "not tried"]


def test_a_device_that_is_lost_after_the_switch_is_a_failure_of_the_model(real, forge, fleet, monkeypatch):
    def lost(device, name, slot, seconds):
        raise DeviceError(f"{device.name}: the connection ended")

    monkeypatch.setattr("edgekit.deploy.fleet.await_good", lost)
    fleet = fleet.model_copy(update={"rollout": Rollout(soak=1)})
    found = roll_out(real(1), fleet, root=forge.root())
    assert [device.outcome for device in found.devices] == ["failed", "not tried", "not tried", "not tried"]
    assert "lost after the switch" in found.stopped


def test_a_url_that_leads_nowhere_is_told_before_any_device_is_touched(real, forge, fleet, tmp_path):
    fleet = fleet.model_copy(update={"devices": (*fleet.devices, Entry(name="typo", url="shh://x"))})
    with pytest.raises(TargetError, match="no way to a device is called 'shh'"):
        roll_out(real(1), fleet, root=forge.root())
    assert not (tmp_path / "d0").exists()


def test_a_model_that_no_application_marks_good_goes_back(real, forge, tmp_path):
    with connect(f"dir://{tmp_path}/d") as device:
        first = flash(device, real(1), root=forge.root(), approve=True)
        second = flash(device, real(2))
        with pytest.raises(SelfTestError, match=f"did not mark {second.slot} good within 0.2 s; it is back at {first.slot}"):
            await_good(device, "tiny", second.slot, 0.2)
        assert device.ask("status")["models"]["tiny"]["current"] == first.slot


def test_a_model_that_can_t_go_back_says_why(real, forge, tmp_path):
    with connect(f"dir://{tmp_path}/d") as device:
        first = flash(device, real(1), root=forge.root())
        with pytest.raises(SelfTestError, match=r"within 0.1 s; there is no earlier good model to return to"):
            await_good(device, "tiny", first.slot, 0.1)
        with disk.alone(tmp_path / "d/lock"), pytest.raises(SelfTestError, match=r"within 0.1 s; another agent is at work"):
            await_good(device, "tiny", first.slot, 0.1)


def test_an_inventory_names_devices_in_short_or_in_full(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text("schema: 1\ndevices:\n  - ssh://pi@a\n  - {name: b, url: ssh://pi@b, canary: true}\nrollout: {batch: 10}\n")
    found = read_inventory(path)
    assert [(device.name, device.canary) for device in found.devices] == [("ssh://pi@a", False), ("b", True)]
    assert found.rollout.batch == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema: 1\ndevices: []\n", "devices"),
        ("schema: 1\ndevices: [ssh://a, ssh://a]\n", "stands twice"),
        ("schema: 1\ndevices: [{name: a, url: x, canari: true}]\n", "unknown key"),
        ("devices: 3\n", "devices"),
    ],
)
def test_bad_inventories(tmp_path, text, words):
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    with pytest.raises(TargetError, match=words):
        read_inventory(path)


def test_one_device_or_a_fleet(real, capsys):
    assert main(["flash", str(real(1))]) == 2
    assert "flash to one device or to a fleet" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["--to", "--inventory"])
def test_a_bundle_that_is_not_there_is_told_before_any_device_is_touched(tmp_path, capsys, way):
    (tmp_path / "fleet.yaml").write_text(f"schema: 1\ndevices: ['dir://{tmp_path}/a']\n")
    where = {"--to": f"dir://{tmp_path}/a", "--inventory": str(tmp_path / "fleet.yaml")}[way]
    assert main(["flash", str(tmp_path / "none.edgekit"), way, where]) == 2
    assert "give the path of a bundle" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("words", [["--inventory", "fleet.yaml"], ["--to", "dir:///x", "--mark-good"]])
def test_what_store_only_can_t_do(real, capsys, words):
    assert main(["flash", str(real(1)), "--store-only", *words]) == 2
    assert "--store-only" in capsys.readouterr().err


def test_the_command_prints_a_table_and_the_exit_code_tells(real, root_file, tmp_path, capsys):
    path = tmp_path / "fleet.yaml"
    path.write_text(f"schema: 1\ndevices:\n  - dir://{tmp_path}/a\n  - dir://{tmp_path}/b\n")
    assert main(["flash", str(real(1)), "--inventory", str(path), "--trust", str(root_file), "--mark-good"]) == 0
    told = capsys.readouterr()
    assert "2 of 2 devices have tiny-1-0.0-3.edgekit; every device had its turn" in told.out
    assert told.err.count("updated") == 2
