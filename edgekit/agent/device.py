"""What this device is: what a bundle's target is compared with, and what ``edgekit devices`` shows."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "litert": ("ai-edge-litert",),
    "tflite_runtime": ("tflite-runtime",),
    "pytorch": ("torch",),
}
"""Where each runtime may come from."""
_TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
"""Where JetPack puts it, outside of PATH."""


def probe(home: Path) -> dict[str, Any]:
    """Describe the device as plain data."""
    info = _cpuinfo()
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    return {
        "architecture": platform.machine(),
        "features": sorted(set((info.get("flags") or info.get("Features") or "").split())),
        "board": board()[0],
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "free_mb": shutil.disk_usage(place).free >> 20,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "runtimes": runtimes(),
        "tensorrt": trtexec() is not None,
        "machine": _read("/etc/machine-id").strip(),
        "user": os.geteuid(),
        "interpreter": sys.executable,
    }


def runtimes() -> dict[str, str]:
    """Version of each runtime that is installed, without importing it."""
    found = {name: version for name, choices in DISTRIBUTIONS.items() for version in [_version(choices)] if version}
    numpy = _version(("numpy",))
    return {**found, **({"numpy": numpy} if numpy else {})}


def trtexec() -> str | None:
    """Path of TensorRT's builder; None where there is none."""
    found = shutil.which("trtexec")
    return found or (_TRTEXEC if os.access(_TRTEXEC, os.X_OK) else None)


def board() -> tuple[str, str]:
    """What kind of device this is: its board, or CPU, and its kernel's release."""
    info = _cpuinfo()
    return _read("/proc/device-tree/model").strip("\0\n ") or info.get("Model", "") or info.get("model name", ""), platform.release()


def _version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _cpuinfo() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
