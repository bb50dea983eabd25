"""How commands show devices and what was done to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.deploy.flash import Flashed


def show_flashed(found: Flashed) -> None:
    """Print what became of a bundle on one device."""
    from edgekit.cli._output import console, size

    out = console()
    name = f"{found.name} {found.version}"
    if found.already:
        out.print(f"{found.device}: {name} is current already ({found.state})", soft_wrap=True)
        return
    sent = f"{size(found.bytes_sent)} of {size(found.bytes_total)} sent in {found.transfer_seconds:.2f} s"
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
    out.print(f"{found.device}: {name} is current, {found.state}; {sent}, {found.seconds:.1f} s in all", soft_wrap=True)
