"""Brings one bundle to one device: the front first, then only the files that are not there, then the word to try it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.agent import wire
from edgekit.core.schema import Schema
from edgekit.deploy.reading import Bundle, open_bundle

if TYPE_CHECKING:
    from edgekit.deploy.connection import Connection


class Flashed(Schema):
    """What became of a bundle on a device.

    Attributes:
        transfer_seconds: until every file was on the device's disk.
        seconds: and until it was tested and current.
    """

    device: str
    name: str
    version: int
    slot: str
    active: bool
    already: bool
    state: str
    selftest: dict[str, Any] | None = None
    engine: dict[str, Any] | None = None
    bytes_sent: int
    bytes_total: int
    transfer_seconds: float
    seconds: float


def flash(device: Connection, bundle: Path, *, root: Any = None, approve: bool = False, activate: bool = True) -> Flashed:
    """Send a bundle and have it installed.

    Args:
        device: an open connection.
        bundle: the bundle's file.
        root: signed root that a device without one, or with an older one, is told to trust.
        approve: take the model for good at once, instead of leaving that to the application.
        activate: False stores it only; the device tries it by itself later (``agent.pyz activate``).

    Raises:
        BundleError: the device refuses it.
        SelfTestError: the model failed its self-test there; what was current still is.
        DeviceError: the connection broke off; flashing again goes on where it stopped.
    """
    began = time.perf_counter()
    with open_bundle(bundle) as opened:
        if root is not None:
            device.ask("trust", root=root)
        front = opened.envelope
        offered = device.ask("offer", here=activate, **{name: getattr(front, name).decode("ascii") for name in front._fields})
        if not offered["done"]:
            _send(device, opened, offered["missing"])
        sent = device.sent + sum(map(len, front))
        device.sent = 0
        found = device.ask("finish", activate=activate, approve=approve)
        seconds = time.perf_counter() - began
        manifest = opened.manifest
    return Flashed(
        device=device.name,
        name=manifest.name,
        version=manifest.version,
        slot=found["slot"],
        active=found["active"],
        already=found["already"],
        state=found["models"][manifest.name]["state"] if found["active"] else "stored",
        selftest=found.get("selftest"),
        engine=found.get("engine"),
        bytes_sent=sent,
        bytes_total=bundle.stat().st_size,
        transfer_seconds=round(seconds - found["seconds"], 4),
        seconds=round(seconds, 4),
    )


def _send(device: Connection, bundle: Bundle, have: dict[str, int]) -> None:
    sent = set()
    for path, entry in sorted(bundle.manifest.files.items()):
        sha256 = entry["sha256"]
        if sha256 not in have or sha256 in sent or have[sha256] > entry["size"]:
            continue
        sent.add(sha256)
        device.tell("file", {"sha256": sha256, "size": entry["size"] - have[sha256]})
        for chunk in bundle.read(path, have[sha256], wire.BODY_LIMIT):
            device.tell("more", {}, chunk)
