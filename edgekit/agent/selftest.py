"""The bundle's own test, run on the device in a process that may crash, hang or be killed for memory without harm to the agent."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .refusal import Refused

_SIGNALS = {
    "SIGKILL": "the device may have run out of memory",
    "SIGILL": "the CPU lacks an instruction that the runtime was built with",
}
_SAID = 400


def interpreter() -> list[str]:
    """Command of the Python that has the runtime: ``EDGEKIT_PYTHON``, this one by default."""
    return shlex.split(os.environ.get("EDGEKIT_PYTHON", "")) or [sys.executable]


class Trial:
    """A process that runs one slot's test; it ends by itself when the agent does.

    Args:
        runner: ``agent.pyz`` whose digest is that of the bundle's runner.
        words: ``try SLOT``; or ``rehearse RUNTIME``, to load the runtime before the slot is there.
    """

    def __init__(self, runner: Path, *words: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the trial
        command = [*interpreter(), str(runner), *words]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)

    def answer(self, slot: Path, seconds: float) -> tuple[int, bytes, str]:
        """Name the slot, wait for the end; return the status, what was answered, and the last of what was said besides.

        Raises:
            TimeoutExpired: it took longer than these seconds.
        """
        try:
            told = self._process.communicate(os.fsencode(slot) + b"\n", timeout=seconds)[0]
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _SAID))
            said = self._log.read().decode("utf-8", "replace")
            return self._process.returncode, told, " | ".join(line.strip() for line in said.splitlines() if line.strip())
        finally:
            self.end()

    def end(self) -> None:
        """End the process, whatever it does; a child that it leaves behind, and that holds its output, is not waited for."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()


def run(slot: Path, content: Mapping[str, Any], ready: Trial | None = None) -> dict[str, Any]:
    """Run a stored bundle's test with the bundle's own runner; return what was measured.

    Args:
        slot: folder whose files have been checked against the manifest.
        content: the manifest.
        ready: a process of that runner that was started before the slot was there.

    Raises:
        Refused: ``selftest``: outputs beyond the tolerance, too slow, too much memory, crashed, or silent for too long.
    """
    seconds = content["selftest"]["timeout_s"]
    try:
        status, told, said = (ready or Trial(slot / content["runner"], "try", str(slot))).answer(slot, seconds)
    except subprocess.TimeoutExpired as problem:
        raise _failed(content, f"no answer within {seconds} s") from problem
    if status < 0:
        name = signal.Signals(-status).name
        raise _failed(content, f"its process was ended by {name}", _SIGNALS.get(name, "try another runtime or precision"))
    try:
        found: dict[str, Any] = json.loads(told.decode("utf-8").splitlines()[-1])
    except (ValueError, IndexError) as problem:
        raise _failed(content, f"its process ended with status {status}: {said}") from problem
    judge(content, found)
    return found


def judge(content: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Compare what the test measured with the manifest's limits.

    Raises:
        Refused: ``selftest``.
    """
    test = content["selftest"]
    if "error" in found:
        raise _failed(content, found["error"])
    tolerance = float(test["tolerance"])
    if not found["deviation"] <= tolerance:  # what is not a number is not within
        raise _failed(content, f"outputs differ by {found['deviation']:.3g} of their range, {tolerance:g} is allowed")
    if test["latency_us"] is not None and found["p50_us"] > test["latency_us"]:
        raise _failed(content, f"{found['p50_us'] / 1000:.3g} ms at the median, {test['latency_us'] / 1000:.3g} ms are allowed")
    if test["memory_kb"] is not None and found["peak_kb"] > test["memory_kb"]:
        raise _failed(content, f"{found['peak_kb'] / 1024:.0f} MiB at the peak, {test['memory_kb'] / 1024:.0f} MiB are allowed")


def _failed(content: Mapping[str, Any], why: str, hint: str = "the model that was current still is") -> Refused:
    return Refused("selftest", f"{content['name']} {content['version']} fails its self-test on this device: {why}", hint)
