"""What machine this is: the circumstances every measured number carries."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from edgekit.core.schema import Schema

FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "fphp",
)
"""Instruction-set extensions that decide which kernels run, by the names of Linux's ``/proc/cpuinfo``."""


class Machine(Schema):
    """A machine as a report describes it."""

    cpu: str
    architecture: str
    features: tuple[str, ...]
    cores: int
    memory_mb: int
    system: str
    python: str


@cache
def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return Machine(
        cpu=info.get("model name") or _device_tree_model() or platform.processor() or "unknown",
        architecture=platform.machine(),
        features=tuple(f for f in FEATURES if f in flags),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def load_average() -> float:
    """Number of processes that wanted to run, averaged over the last minute."""
    return os.getloadavg()[0]


def _cpuinfo() -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return found
    for line in text.splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found


def _device_tree_model() -> str:
    try:
        return Path("/proc/device-tree/model").read_text(encoding="utf-8").strip("\0\n ")
    except OSError:
        return ""
