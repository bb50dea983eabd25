"""TensorRT engines: built on the device they run on, kept by device and version, believed only after they gave the expected outputs.

An engine fits one GPU and one TensorRT, so it can't travel in a bundle. Where there is no ``trtexec``, where it fails, or where the engine
computes something else, the model runs in the runtime that the self-test has just shown to work, and the answer says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import device, disk
from .selftest import interpreter

BUILD_SECONDS = 3600
_VERSION = re.compile(r"\[TensorRT v([0-9]+)\]")
RECORD = "engine.json"
"""Beside a slot's manifest: which of the two runs."""


def prepare(home: Path, slot: Path, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Build, or find, and try the engine of a stored model; None where its bundle asks for none.

    Returns:
        ``runs`` (``tensorrt`` or the fallback's name), and ``engine`` with its path below ``home``, or ``why`` it is the fallback.
    """
    if content["tensorrt"] is None:
        return None
    builder = device.trtexec()
    found = {"runs": content["runtime"]["name"]}
    if builder is None:
        found["why"] = "trtexec is not installed here"
    else:
        engine = home / "engines" / f"{_key(builder, content)}.engine"
        found["why"] = _build(builder, slot, content, engine) or _differs(builder, slot, content, engine)
        if not found["why"]:
            found = {"runs": "tensorrt", "engine": f"engines/{engine.name}"}
    disk.replace(slot / RECORD, json.dumps(found, sort_keys=True).encode() + b"\n")
    return found


def collect(home: Path) -> None:
    """Remove engines that no slot uses any more, and half-built ones."""
    folder = home / "engines"
    if not folder.is_dir():
        return
    kept = {used(slot) for slot in (home / "models").glob("*/slots/*")}
    for path in folder.iterdir():
        if f"engines/{path.name}" not in kept:
            disk.remove_file(path)


def _key(builder: str, content: Mapping[str, Any]) -> str:
    """What decides an engine: the model with its weights, how it is built, TensorRT's version, and the device."""
    done = subprocess.run([builder, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode("utf-8", "replace")
    version = _VERSION.search(said)
    folder = content["model"].rpartition("/")[0]
    parts = [
        *(entry["sha256"] for path, entry in sorted(content["files"].items()) if path.startswith(folder)),
        *content["tensorrt"]["flags"],
        version.group(1) if version else hashlib.sha256(said.encode()).hexdigest(),
        *device.board(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _build(builder: str, slot: Path, content: Mapping[str, Any], engine: Path) -> str:
    """Build an engine unless it is there; return what went wrong, empty for nothing."""
    if engine.exists():
        return ""
    disk.make_folder(engine.parent)
    aside = engine.with_name(f".{engine.name}.new")
    disk.remove_file(aside)
    command = [builder, f"--onnx={slot / content['model']}", f"--saveEngine={aside}", *content["tensorrt"]["flags"]]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BUILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"trtexec did not finish within {BUILD_SECONDS} s"
    if done.returncode or not aside.exists():
        return f"trtexec failed: {_last_error(done.stdout)}"
    disk.flush(aside)
    disk.move(aside, engine)
    return ""


def _differs(builder: str, slot: Path, content: Mapping[str, Any], engine: Path) -> str:
    """Compare the engine with the expected outputs; return what is wrong, empty for nothing."""
    command = [*interpreter(), str(slot / content["runner"]), "try-engine", str(slot), str(engine), builder]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=content["selftest"]["timeout_s"], check=False
        )
        told = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as problem:
        return f"the engine could not be tried ({type(problem).__name__})"
    if "error" in told:
        return f"the engine could not be tried: {told['error']}"
    tolerance = float(content["selftest"]["tolerance"])
    if not told["deviation"] <= tolerance:
        return f"the engine's outputs differ by {told['deviation']:.3g} of their range, {tolerance:g} is allowed"
    return ""


def _last_error(said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if "[E]" in line] or lines
    return errors[-1][:200] if errors else "it said nothing"


def used(slot: Path) -> str | None:
    """The engine that a slot uses; None for none."""
    try:
        found: str | None = json.loads(disk.read_small(slot / RECORD)).get("engine")
    except (OSError, ValueError):
        return None
    return found


def exists(home: Path, engine: str) -> bool:
    """Whether an engine is still there."""
    return os.path.isfile(home / engine)
