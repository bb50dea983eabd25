"""Rolls a bundle out over many devices: first a few, then in batches, and no further when it fails.

A model that is refused or fails its self-test says something about the model, and stops the roll-out; a device that can't be reached says
something about that device, and is only told, unless it was lost after the switch to the new model. A first batch of which no device could
be reached proves nothing, and stops it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.core.errors import BundleError, DeviceError, EdgekitError, SelfTestError, TargetError
from edgekit.core.schema import Schema, parse, read_yaml
from edgekit.deploy.connection import connect, open_transport
from edgekit.deploy.flash import flash
from edgekit.deploy.reading import open_bundle

if TYPE_CHECKING:
    from edgekit.deploy.connection import Connection

Outcome = Literal["updated", "already", "refused", "failed", "unreachable", "not tried"]
_POLL = 0.5


class Entry(Schema):
    """A device of an inventory."""

    name: str
    url: str
    canary: bool = Field(False, description="Among the first to be tried.")


class Rollout(Schema):
    """How to go about it."""

    canary: int = Field(1, ge=1, description="Devices of the first batch, where none is marked as canary.")
    batch: int = Field(5, ge=1, description="Devices of each further batch.")
    parallel: int = Field(4, ge=1, le=64, description="Devices at once.")
    max_failures: int = Field(0, ge=0, description="Devices that may refuse the bundle or fail its self-test.")
    soak: float = Field(0, ge=0, description="Seconds within which an application has to mark the model good; 0 does not wait.")


class Inventory(Schema):
    """A fleet."""

    schema_version: Literal[1] = Field(1, alias="schema")
    devices: tuple[Entry, ...] = Field(min_length=1)
    rollout: Rollout = Rollout()


class DeviceOutcome(Schema):
    """What became of one device."""

    device: str
    url: str
    batch: int
    outcome: Outcome
    reason: str = ""
    state: str | None = None
    bytes_sent: int = 0
    seconds: float = 0.0


class FleetOutcome(Schema):
    """What became of a roll-out."""

    bundle: str
    stopped: str | None = Field(description="Why it went no further; None when every device had its turn.")
    devices: tuple[DeviceOutcome, ...]

    @property
    def exit_code(self) -> int:
        """0 when every device has the model."""
        return 0 if all(device.outcome in ("updated", "already") for device in self.devices) else 1


def read_inventory(path: Path) -> Inventory:
    """Read an inventory; a device may be written as its URL alone.

    Raises:
        TargetError: no inventory, or one device twice.
    """
    content = read_yaml(path, TargetError)
    listed = content.get("devices")
    if isinstance(listed, list):
        content["devices"] = [{"name": item, "url": item} if isinstance(item, str) else item for item in listed]
    found = parse(Inventory, content, str(path), TargetError)
    for role in ("name", "url"):
        seen = [getattr(device, role) for device in found.devices]
        twice = next((value for value in seen if seen.count(value) > 1), None)
        if twice is not None:
            raise TargetError(f"{path}: {role} {twice!r} stands twice", hint="list each device once")
    return found


def plan_batches(devices: Sequence[Entry], rollout: Rollout) -> list[list[Entry]]:
    """Decide who is tried when: the canaries, then the others in the inventory's order."""
    first = [device for device in devices if device.canary] or list(devices[: rollout.canary])
    rest = [device for device in devices if device not in first]
    return [first, *(rest[start : start + rollout.batch] for start in range(0, len(rest), rollout.batch))]


def roll_out(
    bundle: Path,
    inventory: Inventory,
    *,
    root: Any = None,
    approve: bool = False,
    told: Callable[[DeviceOutcome], None] = lambda outcome: None,
) -> FleetOutcome:
    """Flash a fleet.

    Args:
        bundle: the bundle's file.
        inventory: devices, and how to go about it.
        root: as in :func:`flash`.
        approve: as in :func:`flash`.
        told: hears of each device as soon as it is done.

    Raises:
        BundleError: no bundle.
        TargetError: a URL that leads nowhere.
    """
    with open_bundle(bundle):
        for device in inventory.devices:
            open_transport(device.url)
    rollout, done, stopped = inventory.rollout, [], None
    for number, batch in enumerate(plan_batches(inventory.devices, rollout)):
        if stopped is not None:
            done += [DeviceOutcome(device=d.name, url=d.url, batch=number, outcome="not tried") for d in batch]
            continue

        def one(entry: Entry, number: int = number) -> DeviceOutcome:
            outcome = _one(entry, number, bundle, root, approve, rollout.soak)
            told(outcome)
            return outcome

        with ThreadPoolExecutor(rollout.parallel) as pool:
            found = list(pool.map(one, batch))
        done += found
        stopped = verdict(number, found, done, rollout)
    return FleetOutcome(bundle=bundle.name, stopped=stopped, devices=tuple(done))


def verdict(number: int, batch: Sequence[DeviceOutcome], done: Sequence[DeviceOutcome], rollout: Rollout) -> str | None:
    """Why a roll-out stops after a batch; None to go on.

    Args:
        number: the batch's.
        batch: its devices.
        done: all devices that have had their turn.
        rollout: how many may fail.
    """
    bad = [device for device in done if device.outcome in ("refused", "failed")]
    if len(bad) > rollout.max_failures:
        return f"{len(bad)} failed by batch {number}, {rollout.max_failures} may: {bad[-1].reason}"
    if number == 0 and all(device.outcome == "unreachable" for device in batch):
        return "no device of the first batch could be reached"
    return None


def _one(entry: Entry, number: int, bundle: Path, root: Any, approve: bool, soak: float) -> DeviceOutcome:
    began = time.perf_counter()
    facts: dict[str, Any] = {"device": entry.name, "url": entry.url, "batch": number}
    try:
        with connect(entry.url) as device:
            found = flash(device, bundle, root=root, approve=approve)
            facts |= {"state": found.state, "bytes_sent": found.bytes_sent}
            if soak and found.state != "good":
                await_good(device, found.name, found.slot, soak)
                facts["state"] = "good"
        outcome: Outcome = "already" if found.already else "updated"
        reason = ""
    except EdgekitError as problem:
        outcome, reason = _outcome_of(problem), problem.message
        if outcome == "unreachable" and "state" in facts:
            outcome, reason = "failed", f"lost after the switch: {reason}"
    return DeviceOutcome(**facts, outcome=outcome, reason=reason, seconds=round(time.perf_counter() - began, 3))


def _outcome_of(problem: EdgekitError) -> Outcome:
    if isinstance(problem, DeviceError):
        return "unreachable"
    return "failed" if isinstance(problem, SelfTestError) else "refused"


def await_good(device: Connection, name: str, slot: str, seconds: float) -> None:
    """Wait until the application has marked a slot good.

    Raises:
        SelfTestError: it gave the model up, or said nothing in time; then the device returns to its last good model.
    """
    end = time.monotonic() + seconds
    while True:
        state = device.ask("status")["models"][name]
        if state["good"] == slot:
            return
        if state["current"] != slot:
            raise SelfTestError(f"{device.name}: the application gave {slot} up", hint="read the journal: edgekit devices --json")
        if time.monotonic() >= end:
            break
        time.sleep(min(_POLL, seconds))
    left = f"{device.name}: the application did not mark {slot} good within {seconds:g} s"
    try:
        returned = device.ask("back", name=name)["slot"]
    except BundleError as problem:
        why = problem.message.removeprefix(f"{device.name}: ")
        raise SelfTestError(f"{left}; {why}", hint="does it call mark_good?") from None
    raise SelfTestError(f"{left}; it is back at {returned}", hint="does it call mark_good?")
