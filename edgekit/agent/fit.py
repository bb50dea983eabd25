"""Whether a bundle is for this device, decided before a byte of it is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .refusal import Refused


def check(content: Mapping[str, Any], device: Mapping[str, Any]) -> None:
    """Compare a manifest with a probed device.

    Raises:
        Refused: ``target``: the first thing that does not fit.
    """
    target, runtime = content["target"], content["runtime"]
    if device["architecture"] not in target["architectures"]:
        raise _unfit(content, f"it is for {' or '.join(target['architectures'])}, this device is {device['architecture']}")
    missing = sorted(set(target["features"]) - set(device["features"]))
    if missing:
        raise _unfit(content, f"this CPU lacks {', '.join(missing)}")
    if target["memory_mb"] is not None and device["memory_mb"] < target["memory_mb"]:
        raise _unfit(content, f"it needs {target['memory_mb']} MiB of memory, this device has {device['memory_mb']}")
    have = device["runtimes"].get(runtime["name"])
    wanted = f"{runtime['name']} >= {runtime['at_least']}, < {runtime['below']}"
    if have is None or "numpy" not in device["runtimes"]:
        raise Refused(
            "target", f"{runtime['name']} and numpy are needed here and are not installed", f"install {wanted} and numpy on the device"
        )
    if not version(runtime["at_least"]) <= version(have) < version(runtime["below"]):
        raise _unfit(content, f"it wants {wanted}, this device has {have}")


def version(text: str) -> tuple[int, ...]:
    """The numbers at the start of a version; what follows them (``rc1``, ``+cpu``) does not count."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else (0,)


def _unfit(content: Mapping[str, Any], why: str) -> Refused:
    return Refused(
        "target", f"{content['name']} {content['version']} is not for this device: {why}", "make a bundle for this device's target"
    )
