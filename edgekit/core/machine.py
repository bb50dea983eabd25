"""What machine this is: the circumstances every measured number carries."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
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
    "sve",
    "sme",
)
"""Instruction-set extensions that decide which kernels run, by the names of Linux's ``/proc/cpuinfo``."""

_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x4e", "0x004"): "Carmel",
}
"""Arm cores by implementer and part number of MIDR_EL1, as ``/proc/cpuinfo`` prints them and lscpu names them."""


class Machine(Schema):
    """A machine as a report describes it."""

    cpu: str
    architecture: str
    features: tuple[str, ...]
    cores: int
    memory_mb: int
    system: str
    python: str

    @property
    def saturates(self) -> bool:
        """Whether int8 kernels add pairs of products in 16 saturating bits here: x86 before VNNI (``vpmaddubsw``)."""
        return self.architecture == "x86_64" and not {"avx512_vnni", "avx_vnni"} & set(self.features)


@cache
def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    info = parse_cpuinfo(_read("/proc/cpuinfo"))
    return Machine(
        cpu=cpu_name(info, _read("/proc/device-tree/model")) or platform.processor() or "unknown",
        architecture=platform.machine(),
        features=cpu_features(info),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def load_average() -> float:
    """Number of processes that wanted to run, averaged over the last minute."""
    return os.getloadavg()[0]


def kernel_features(features: Iterable[str]) -> frozenset[str]:
    """Keep the extensions that decide which kernels run.

    Where AVX512-VNNI is there, libraries use it and never look at AVX-VNNI, which some hypervisors hide: so the two kinds of
    machine run the same kernels.
    """
    kept = frozenset(features)
    return kept - {"avx_vnni"} if "avx512_vnni" in kept else kept


def parse_cpuinfo(text: str) -> dict[str, str]:
    """Read the first value of every key of ``/proc/cpuinfo``."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found


def cpu_features(info: dict[str, str]) -> tuple[str, ...]:
    """Names out of ``FEATURES`` that a parsed cpuinfo lists (``flags`` on x86, ``Features`` on Arm)."""
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return tuple(name for name in FEATURES if name in flags)


def cpu_name(info: dict[str, str], board: str = "") -> str:
    """Name a CPU for people; on a board its name comes first, for it says more than "ARMv8 Processor rev 3".

    Args:
        info: a parsed cpuinfo.
        board: the device tree's model; containers hide it, but Raspberry Pi's cpuinfo repeats it.
    """
    board = board.strip("\0\n ") or info.get("Model", "")
    core = _CORES.get((info.get("CPU implementer", ""), info.get("CPU part", ""))) or info.get("model name", "")
    return f"{board} ({core})" if board and core else board or core


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
