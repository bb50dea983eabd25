"""The agent and its self-test as an ARM device runs them, under user-mode emulation; shows that it works, never how fast.

``EDGEKIT_ARM64`` holds ``ROOT`` (an unpacked Debian arm64 python3.11-minimal with libpython3.11-stdlib, libstdc++6 and libgomp1),
``site`` (aarch64 wheels of NumPy and ONNX Runtime) and ``qemu/usr/bin/qemu-aarch64-static``; ``RUN`` is a run for an aarch64 target.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.deploy.bundles import Builder
from benchmarks.deploy.lifecycle import told
from benchmarks.deploy.server import Server, wrapper
from edgekit.core.errors import BundleError, SelfTestError
from edgekit.deploy.connection import connect
from edgekit.deploy.devices import look, roll_back
from edgekit.deploy.flash import flash

CPU = "cortex-a72"
_CPUINFO = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


def measure(device: Server, run: Path, work: Path) -> dict[str, Any]:
    """Flash, flash the next, refuse a bad one, roll back; and refuse the ARM bundle where the CPU is another."""
    base = Path(os.environ["EDGEKIT_ARM64"])
    _pretend(base / "ROOT")
    emulator = f"{base}/qemu/usr/bin/qemu-aarch64-static -cpu {CPU} -L {base}/ROOT {base}/ROOT/usr/bin/python3.11"
    python = wrapper(device.home / "arm-python3", f'PYTHONPATH={base}/site exec {emulator} "$@"')
    builder = Builder(run, work, os.environ.get("EDGEKIT_ARM64_TARGET"))
    url = device.url(device.home / f"arm64-{time.time_ns()}", python=python)
    with connect(url) as opened:
        first = flash(opened, builder.make(1), root=builder.root, approve=True)
        second = flash(opened, builder.make(2))
    steps: dict[str, Any] = {"emulated": f"qemu-user, {CPU}", "first flash": told(first), "next version": told(second)}
    state = look(url)
    steps["probe"] = {
        "architecture": state.architecture,
        "features": list(state.features),
        "python": state.python,
        "runtimes": state.runtimes,
    }
    with connect(url) as opened:
        try:
            flash(opened, builder.bad(3))
            steps["bad model"] = "was let in"
        except SelfTestError as problem:
            steps["bad model"] = problem.message.rpartition("fails its self-test on this device: ")[2]
        steps["rollback to"] = roll_back(opened, None).slot.partition("-")[0]
    with connect(device.url(device.home / f"x86-{time.time_ns()}")) as opened:
        try:
            flash(opened, builder.make(4), root=builder.root)
            steps["on x86"] = "was let in"
        except BundleError as problem:
            steps["on x86"] = problem.message.partition(": ")[2]
    return steps


def _pretend(root: Path) -> None:
    """Files by which libraries recognise the CPU; under emulation the host's would show through, or none."""
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text("".join(_CPUINFO.format(n=n) for n in range(os.cpu_count() or 1)))
    cpus = root / "sys/devices/system/cpu"
    (cpus / "cpu0/regs/identification").mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present", "online"):
        (cpus / name).write_text(f"0-{(os.cpu_count() or 1) - 1}\n")
    (cpus / "cpu0/regs/identification/midr_el1").write_text("0x00000000410fd083\n")
