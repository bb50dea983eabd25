"""How commands show devices and what was done to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.deploy.flash import Flashed
    from edgekit.deploy.fleet import DeviceOutcome, FleetOutcome
    from edgekit.deploy.measuring import DeviceBenchmark


def show_flashed(found: Flashed) -> None:
    """Print what became of a bundle on one device."""
    from edgekit.cli._output import console, size

    out = console()
    name = f"{found.name} {found.version}"
    if found.already:
        out.print(f"{found.device}: {name} is current already ({found.state})", soft_wrap=True)
        return
    sent = f"{size(found.bytes_sent)} of {size(found.bytes_total)} sent"
    if not found.active:
        out.print(
            f"{found.device}: {name} is stored ({sent}); agent.pyz activate {found.name} on the device tests and switches", soft_wrap=True
        )
        return
    test = found.selftest or {}
    if test:
        told = test["circumstances"]
        out.print(
            f"self-test on the device: {test['samples']} samples differ by at most {test['deviation']:.1e} of the range, "
            f"{test['p50_us'] / 1000:.3g} ms at the median, {test['peak_kb'] >> 10} MiB, in {told['runtime']} {told['version']}",
            soft_wrap=True,
        )
    if found.engine:
        why = f": {found.engine['why']}" if "why" in found.engine else ""
        out.print(f"on the device it runs in {found.engine['runs']}{why}", soft_wrap=True)
    out.print(f"{found.device}: {name} is current, {found.state}; {sent}, {found.seconds:.1f} s in all", soft_wrap=True)


def show_benchmark(found: DeviceBenchmark) -> None:
    """Print what a model did on a device."""
    from edgekit.cli._output import console

    out, told = console(), found.latency
    ran = told.circumstances
    out.print(
        f"{found.device.device}: {found.model} {found.version} on {ran['machine']}, in {ran['runtime']} {ran['version']}", soft_wrap=True
    )
    if told.p50 is not None:
        tail = "".join(f", {name} {value.value:.3f}" for name, value in (("p90", told.p90), ("p99", told.p99)) if value)
        interval = f"[{told.p50.low:.3f} {told.p50.high:.3f}]"
        out.print(
            f"  latency   {told.p50.value:.3f} ms at the median {interval}{tail} ({told.basis}; {told.runs} runs, {ran['threads']} threads)"
        )
    if found.memory.peak_mb is not None:
        out.print(f"  memory    {found.memory.peak_mb:.0f} MB at the peak")
    for name, value in found.metrics.items():
        out.print(f"  {name:<9} {value:.2f} ({found.inputs}, N={found.samples})")
    if not found.metrics:
        out.print(f"  inputs    {found.inputs}; accuracy was not judged")


def tell(outcome: DeviceOutcome) -> None:
    """Say on standard error that a device is done."""
    import sys

    sys.stderr.write(f"batch {outcome.batch}: {outcome.device}: {outcome.outcome}{f' ({outcome.reason})' if outcome.reason else ''}\n")


def show_fleet(found: FleetOutcome) -> None:
    """Print what became of a fleet."""
    from edgekit.cli._output import console, size, table

    out = console()
    columns = ("batch", "device", "outcome", "state", "sent", "s", "reason")
    rows = [(d.batch, d.device, d.outcome, d.state, size(d.bytes_sent), f"{d.seconds:.1f}", d.reason) for d in found.devices]
    out.print(table(columns, rows, right=("batch", "sent", "s")))
    good = sum(d.outcome in ("updated", "already") for d in found.devices)
    ending = f"stopped: {found.stopped}" if found.stopped else "every device had its turn"
    out.print(f"\n{good} of {len(found.devices)} devices have {found.bundle}; {ending}", soft_wrap=True)
