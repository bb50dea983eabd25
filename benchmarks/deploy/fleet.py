"""Twenty devices on loopback, three of them broken in different ways: a bad model stops at the canary, a good one reaches the healthy."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.deploy.bundles import Builder
from benchmarks.deploy.server import Server, free_port, wrapper
from edgekit.deploy.fleet import Entry, FleetOutcome, Inventory, Rollout, roll_out

DEVICES = 20


def measure(device: Server, run: Path, work: Path) -> dict[str, Any]:
    """Roll a good model out, then a bad one, then the next good one."""
    builder = Builder(run, work)
    base = device.home / f"fleet-{time.time_ns()}"
    device.run(f"mkdir -p {base}/d05 && chmod 555 {base}/d05")
    bare = wrapper(device.home / "bare-python3", 'exec /usr/bin/python3 "$@"')
    urls = {f"d{number:02}": device.url(base / f"d{number:02}") for number in range(DEVICES)}
    urls["d11"] = device.url(base / "d11", python=bare)
    urls["d17"] = device.url(base / "d17", port=free_port())
    entries = tuple(Entry(name=name, url=url) for name, url in urls.items())
    inventory = Inventory(devices=entries, rollout=Rollout(canary=2, batch=6, parallel=4, max_failures=2))
    found: dict[str, Any] = {
        "devices": DEVICES,
        "broken": {"d05": "its folder can't be written", "d11": "has no runtime", "d17": "is off"},
        "rollout": inventory.rollout.model_dump(),
    }
    plans = {"good": builder.make(1), "bad": builder.bad(2), "next good": builder.make(3)}
    for name, bundle in plans.items():
        strict = inventory.model_copy(update={"rollout": inventory.rollout.model_copy(update={"max_failures": 0})})
        began = time.perf_counter()
        outcome = roll_out(bundle, strict if name == "bad" else inventory, root=builder.root, approve=True)
        found[name] = {"seconds": round(time.perf_counter() - began, 1), **told(outcome)}
    return found


def told(outcome: FleetOutcome) -> dict[str, Any]:
    """Counts, and what went wrong where."""
    return {
        "stopped": outcome.stopped and plain(outcome.stopped),
        "outcomes": dict(Counter(device.outcome for device in outcome.devices)),
        "by_batch": {str(n): dict(Counter(d.outcome for d in outcome.devices if d.batch == n)) for n in {d.batch for d in outcome.devices}},
        "reasons": {device.device: plain(device.reason) for device in outcome.devices if device.reason},
    }


def plain(reason: str) -> str:
    """A reason without URLs and folders that are others in each run."""
    return re.sub(r"ssh://\S+: ", "", re.sub(r"/home/\S+/fleet-[0-9]+/|\.[0-9]+(?=:)", "", reason))
