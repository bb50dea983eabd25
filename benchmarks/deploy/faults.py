"""The real agent and its self-test, killed at system calls and at random instants, on a disk that fills up, and cut off.

After each fault an application opens what is current and runs it on the inputs of its self-test; then the next flash must succeed.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.deploy.bundles import Builder
from benchmarks.deploy.server import Server, cut_link
from edgekit.agent import slots, trial
from edgekit.core.errors import EdgekitError
from edgekit.deploy.connection import connect
from edgekit.deploy.flash import flash
from edgekit.runner import load

CALLS = "openat,write,fsync,rename,renameat2,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,vfork,clone3,wait4"
GROWS = ("openat", "write", "fsync", "rename", "symlink", "mkdir")
INSTANTS = int(os.environ.get("EDGEKIT_INSTANTS", "200"))
CUTS = 30
CURRENT, UPDATE, NEXT = 3, 4, 5

Fault = Callable[[Path], object]


class Call(NamedTuple):
    """A system call that changes the disk or starts the self-test: its name, and that it is the n-th of that name."""

    name: str
    count: int


class Lab:
    """A device whose version 1 is good, 2 was left for 3, and 3 is on trial; and the bundles to flash next."""

    def __init__(self, run: Path, work: Path) -> None:
        builder = Builder(run, work)
        self.work = work
        self.prepared = work / "prepared"
        with connect(f"dir://{self.prepared}") as opened:
            self.name = flash(opened, builder.make(1), root=builder.root, approve=True).name
            for version in (2, CURRENT):
                flash(opened, builder.make(version))
        self.update, self.after = builder.make(UPDATE, samples=256), builder.make(NEXT, samples=9)

    def copy(self, name: str = "victim") -> Path:
        """A fresh copy of the device."""
        home = self.work / name
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.prepared, home, symlinks=True)
        return home

    def command(self, home: Path) -> list[str]:
        """The agent taking in the update."""
        return [sys.executable, str(home / "agent.pyz"), "--home", str(home), "install", str(self.update)]


def measure(device: Server, run: Path, work: Path) -> dict[str, Any]:
    """Break an update in every way; after each, use what is current and flash again."""
    lab = Lab(run, work)
    began = time.perf_counter()
    subprocess.run(lab.command(lab.copy()), check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - began
    calls = changing_calls(lab)
    chance = random.Random(0)
    moments = (at_instant(lab, chance.uniform(0.0, 1.5 * took)) for _ in iter(int, 1))
    return {
        "seconds_of_an_undisturbed_update": round(took, 2),
        "killed_at_system_calls": campaign(lab, [at_call(lab, call, "signal=KILL", "") for call in calls]),
        "killed_at_random_instants": campaign(lab, moments, INSTANTS),
        "disk_full_from_a_system_call_on": campaign(lab, [at_call(lab, call, "error=ENOSPC", "+") for call in calls if call.name in GROWS]),
        "connection_cut": cuts(lab, device, chance),
    }


def changing_calls(lab: Lab) -> list[Call]:
    """Every system call of an undisturbed update that changes something, in its order."""
    trace = lab.work / "trace"
    subprocess.run(traced(f"trace={CALLS}", trace, lab.command(lab.copy())), check=True, stdout=subprocess.DEVNULL)
    seen: Counter[str] = Counter()
    found = []
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        called = re.match(r"([a-z0-9_]+)\(", line)
        if called is not None:
            seen[called.group(1)] += 1
            if called.group(1) != "openat" or "O_CREAT" in line:
                found.append(Call(called.group(1), seen[called.group(1)]))
    return found


def traced(what: str, trace: Path, command: list[str], *more: str) -> list[str]:
    """A command under strace, the self-test's process left alone."""
    return ["strace", "-qq", "-o", str(trace), "-e", what, *more, *command]


def at_call(lab: Lab, call: Call, effect: str, onwards: str) -> Fault:
    """Let something happen at a system call; ``+`` at all of that name from it on."""

    def strike(home: Path) -> int:
        inject = ("-e", f"inject={call.name}:{effect}:when={call.count}{onwards}")
        command = traced(f"trace={call.name}", Path(os.devnull), lab.command(home), *inject)
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode

    return strike


def at_instant(lab: Lab, moment: float) -> Fault:
    """Kill the agent and its self-test after so many seconds."""

    def strike(home: Path) -> int:
        process = subprocess.Popen(lab.command(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            return process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    return strike


def campaign(lab: Lab, faults: Iterable[Fault], enough: int | None = None) -> dict[str, Any]:
    """Let each fault loose on a copy of the device, then use what is current, and flash again; until enough of them struck."""
    served: Counter[str] = Counter()
    struck, missed, wrong = 0, 0, []
    for number, strike in enumerate(faults):
        if struck == enough:
            break
        home = lab.copy()
        if strike(home) == 0:
            missed += 1
        else:
            struck += 1
        try:
            served[f"version {works(slots.start(home, lab.name))}"] += 1
            with connect(f"dir://{home}") as opened:
                flash(opened, lab.after, approve=True)
            if works(slots.start(home, lab.name)) != NEXT:
                wrong.append(f"fault {number}: the next flash is not current")
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is what this looks for
            wrong.append(f"fault {number}: {problem!r}"[:300])
    return {"instants": struck, "ended_before": missed, "served_right_after": dict(served), "exceptions": wrong}


def cuts(lab: Lab, device: Server, chance: random.Random) -> dict[str, Any]:
    """Cut an SSH connection after some bytes from the host, while the update goes over it."""
    whole = lab.update.stat().st_size // 2  # about what is missing there
    served: Counter[str] = Counter()
    told, missed, wrong = 0, 0, []
    while told < CUTS:
        home = device.place(lab.prepared, f"cut-{time.time_ns()}")
        start = f"{device.python} {home}/agent.pyz start {lab.name}"
        try:
            with cut_link(device.port, chance.randrange(whole)) as port, connect(device.url(home, port=port)) as opened:
                flash(opened, lab.update)
            missed += 1
        except EdgekitError:
            told += 1
        try:
            served[f"version {works(Path(device.run(start)))}"] += 1
            with connect(device.url(home)) as opened:
                flash(opened, lab.after, approve=True)
            if works(Path(device.run(start))) != NEXT:
                wrong.append(f"cut {told}: the next flash is not current")
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is what this looks for
            wrong.append(f"cut {told}: {problem!r}"[:300])
        shutil.rmtree(home)
    return {"instants": told, "ended_before": missed, "served_right_after": dict(served), "exceptions": wrong}


def works(slot: Path) -> int:
    """Version of a slot that an application was told to use; it computes what its self-test expects, or this raises."""
    content = json.loads((slot / "manifest.json").read_bytes())
    test, runtime = content["selftest"], content["runtime"]
    samples = trial.read_samples(slot / test["samples"], test["count"])
    model = load(slot / content["model"], runtime["name"], threads=runtime["threads"], precision=runtime["precision"])
    off = trial.deviation([expected for _, expected in samples], [model.run(inputs) for inputs, _ in samples])
    version: int = content["version"]
    if off > float(test["tolerance"]) or version not in (CURRENT, UPDATE, NEXT):
        raise ValueError(f"version {version} is off by {off:.3g}")
    return version
