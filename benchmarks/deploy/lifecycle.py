"""One device from nothing to a running model, to the next one, and back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.deploy.bundles import Builder
from benchmarks.deploy.server import Server
from edgekit.core.errors import SelfTestError
from edgekit.core.progress import Silent
from edgekit.core.recipe import Measuring
from edgekit.data import open_dataset
from edgekit.deploy.connection import connect
from edgekit.deploy.devices import look, roll_back
from edgekit.deploy.flash import flash
from edgekit.deploy.measuring import benchmark_device


def measure(device: Server, run: Path, work: Path) -> dict[str, Any]:
    """Flash, run, flash the next version, fail a bad one, roll back."""
    builder = Builder(run, work)
    folder = device.home / f"device-{time.time_ns()}"
    url = device.url(folder)
    agent = f"{device.python} {folder}/agent.pyz"
    steps: dict[str, Any] = {}
    with connect(url) as opened:
        first = flash(opened, builder.make(1), root=builder.root, approve=True)
    name = first.name
    steps["first flash"] = told(first)
    steps["application starts in"] = Path(device.run(f"{agent} start {name}")).name == first.slot
    with connect(url) as opened:
        second = flash(opened, builder.make(2))
    steps["next version"] = told(second)
    device.run(f"{agent} start {name} && {agent} good {name}")
    steps["after mark-good"] = look(url).models[0].state
    with connect(url) as opened:
        try:
            flash(opened, builder.bad(3))
            steps["bad model"] = "was let in"
        except SelfTestError as problem:
            steps["bad model"] = problem.message.rpartition("fails its self-test on this device: ")[2]
    steps["current after the bad model"] = look(url).models[0].version
    data = open_dataset("digits", role="evaluation", base=Path.cwd()) if name == "digits" else None
    task = "image_classification" if data else "generic"
    ran = benchmark_device(url, data=data, task=task, measuring=Measuring(rounds=5), progress=Silent())
    steps["measured through the runner"] = {
        "p50_ms": ran.latency.p50 and ran.latency.p50.value,
        "basis": ran.latency.basis,
        "peak_mb": ran.memory.peak_mb,
        "samples": ran.samples,
        "metrics": ran.metrics,
        "circumstances": ran.latency.circumstances,
    }
    began = time.perf_counter()
    with connect(url) as opened:
        back = roll_back(opened, None)
    steps["rollback"] = {"to": back.slot.partition("-")[0], "seconds": round(time.perf_counter() - began, 2)}
    steps["application then starts in the first"] = Path(device.run(f"{agent} start {name}")).name == first.slot
    return steps


def told(found: Any) -> dict[str, Any]:
    """The figures of a flash."""
    test = found.selftest or {}
    return {
        "state": found.state,
        "seconds": found.seconds,
        "bytes_sent": found.bytes_sent,
        "bundle_bytes": found.bytes_total,
        "selftest": {key: test.get(key) for key in ("deviation", "p50_us", "peak_kb", "samples")},
        "runtime": test.get("circumstances", {}).get("version"),
    }
