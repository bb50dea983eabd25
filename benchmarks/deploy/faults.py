"""The real agent, with the real runtime in its self-test, killed from outside at system calls and at random instants."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.deploy.bundles import Builder
from benchmarks.deploy.server import Server
from edgekit.agent.slots import Model
from edgekit.deploy.connection import connect
from edgekit.deploy.flash import flash

CALLS = "write,fsync,rename,renameat2,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,vfork,clone3,wait4"
INSTANTS = int(os.environ.get("EDGEKIT_INSTANTS", "120"))


def measure(device: Server, run: Path, work: Path) -> dict[str, Any]:
    """Kill an update before each system call that changes something, then at random instants; after each, look and flash again."""
    del device
    builder = Builder(run, work)
    prepared = work / "prepared"
    with connect(f"dir://{prepared}") as opened:
        name = flash(opened, builder.make(1), root=builder.root, approve=True).name
    update, after = builder.make(2), builder.make(3)
    took = timed(prepared, work, update)
    found: dict[str, Any] = {"seconds_of_an_undisturbed_update": round(took, 2)}
    found["system_calls"] = campaign(prepared, work, name, update, after, killers_at_calls(work, update))
    chance = random.Random(0)
    moments = sorted(chance.uniform(0.0, took) for _ in range(INSTANTS))
    found["random_instants"] = campaign(prepared, work, name, update, after, (killer_at(moment) for moment in moments))
    return found


def command(home: Path, bundle: Path) -> list[str]:
    """The agent taking in a bundle."""
    return [sys.executable, str(home / "agent.pyz"), "--home", str(home), "install", str(bundle)]


def timed(prepared: Path, work: Path, bundle: Path) -> float:
    """Seconds of an undisturbed update."""
    home = work / "timed"
    shutil.copytree(prepared, home, symlinks=True)
    began = time.perf_counter()
    subprocess.run(command(home, bundle), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def killers_at_calls(work: Path, bundle: Path) -> Any:
    """Kill before the first, the second, ... changing system call, until the update ends by itself."""
    for number in range(1, 400):
        ended = []

        def kill(home: Path, number: int = number, ended: list[int] = ended) -> int:
            inject = f"inject={CALLS}:signal=KILL:when={number}"
            done = subprocess.run(
                ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS}", "-e", inject, *command(home, bundle)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            ended.append(done.returncode)
            return done.returncode

        yield kill
        if ended and ended[0] == 0:
            return


def killer_at(moment: float) -> Any:
    """Kill the agent and its self-test after so many seconds."""

    def kill(home: Path) -> int:
        process = subprocess.Popen(
            command(home, home.parent / "update.edgekit"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            return process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    return kill


def campaign(prepared: Path, work: Path, name: str, update: Path, after: Path, kills: Any) -> dict[str, Any]:
    """Let each killer loose on a copy of a device, then see what it serves, and flash again."""
    served: Counter[str] = Counter()
    wrong: list[str] = []
    shutil.copyfile(update, work / "update.edgekit")
    for number, kill in enumerate(kills):
        home = work / "victim"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(prepared, home, symlinks=True)
        status = kill(home)
        model = Model(home / "models" / name)
        current = model.current or "nothing"
        served["not killed" if status == 0 else f"version {current.partition('-')[0]}"] += 1
        if current[:2] not in ("1-", "2-") or not model.intact(current):
            wrong.append(f"kill {number}: serves {current}")
        with connect(f"dir://{home}") as opened:
            if not flash(opened, after, approve=True).active:
                wrong.append(f"kill {number}: the next flash failed")
    return {"instants": sum(served.values()), "served_right_after": dict(served), "exceptions": wrong}
