"""Time and bytes of an update against a plain ``scp`` of the same file, on loopback and on a link of 100 Mbit/s."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.deploy.bundles import Builder
from benchmarks.deploy.server import Server, slow_link
from edgekit.deploy.connection import connect
from edgekit.deploy.flash import flash

ROUNDS = 5
MEGABITS = 100


def measure(device: Server, run: Path, work: Path) -> dict[str, Any]:
    """Alternate full updates of a fresh device with copies, then update metadata only; what was found, under the bundle's size."""
    builder = Builder(run, work)
    bundle, relabelled = builder.make(1), builder.make(2, label="only this differs")
    ports = {"loopback": device.port, f"{MEGABITS} Mbit/s": slow_link(device.port, MEGABITS)}
    found: dict[str, Any] = {"bundle_bytes": bundle.stat().st_size, "rounds": ROUNDS}
    for name, port in ports.items():
        copies, flashes, sends = [], [], []
        for _ in range(ROUNDS):
            url = device.url(device.home / f"transfer-{time.time_ns()}", port=port)
            with connect(url) as opened:
                opened.ask("trust", root=builder.root)
            copies.append(device.scp(bundle, port=port))
            began = time.perf_counter()
            with connect(url) as opened:
                full = flash(opened, bundle, approve=True)
                sends.append(time.perf_counter() - began - full.seconds + full.transfer_seconds)
            flashes.append(time.perf_counter() - began)
        began = time.perf_counter()
        with connect(url) as opened:
            small = flash(opened, relabelled)
        scp, sent, total = (statistics.median(column) for column in (copies, sends, flashes))
        sent_ratio, total_ratio = (
            statistics.median(ours / theirs for ours, theirs in zip(column, copies, strict=True)) for column in (sends, flashes)
        )
        found[name] = {
            "scp_s": round(scp, 3),
            "connected_checked_and_stored_s": round(sent, 3),
            "with_self_test_and_switch_s": round(total, 3),
            "transfer_ratio": round(sent_ratio, 2),
            "total_ratio": round(total_ratio, 2),
            "full_bytes_share": round(full.bytes_sent / full.bytes_total, 4),
            "metadata_only_s": round(time.perf_counter() - began, 3),
            "metadata_only_bytes": small.bytes_sent,
            "metadata_only_bytes_share": round(small.bytes_sent / small.bytes_total, 4),
        }
    return {f"{bundle.stat().st_size / 1e6:.0f} MB": found}
