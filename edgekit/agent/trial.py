"""The inside of a self-test: loads the model in its runtime, runs the samples, measures; the only file of the agent that needs NumPy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..runner import RunnerError, load, memory, protocol, runtime_class  # noqa: TID252 - the two travel together, under whatever name

Arrays = dict[str, np.ndarray]
_SECONDS, _CALLS = 0.3, 15
"""Of a timing that a limit is compared with."""
_GLANCE_SECONDS, _GLANCE_CALLS = 0.02, 3
"""Of one that is only told."""
_SAMPLES_LIMIT = 1 << 28


def main(slot: Path, try_it: Callable[[Path, dict[str, Any]], dict[str, Any]]) -> int:
    """Test the bundle in a slot and print one line of JSON; whatever else is printed goes to standard error."""
    sink = os.dup(1)
    os.dup2(2, 1)
    try:
        found = try_it(slot, json.loads((slot / "manifest.json").read_bytes()))
    except (RunnerError, protocol.ProtocolError, ValueError, MemoryError, OSError) as problem:
        found = {"error": str(getattr(problem, "message", problem))[:300] or type(problem).__name__}
    os.write(sink, json.dumps(found).encode() + b"\n")
    sys.stderr.flush()
    return 0


def rehearse(runtime: str) -> int:
    """Load a runtime, then test the slot that standard input names; if that ends without naming one, do nothing."""
    with suppress(RunnerError):  # told by the test
        runtime_class(runtime).library()
    slot = sys.stdin.readline().rstrip("\n")
    return main(Path(slot), attempt) if slot else 0


def attempt(slot: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Run every sample and time the first one, for longer where a limit hangs on it.

    Returns:
        Largest deviation of any output as a share of that output's range, median latency, peak memory, and the runtime that ran.

    Raises:
        RunnerError: the model does not load or run.
        ValueError: samples that test nothing.
    """
    runtime, test = content["runtime"], content["selftest"]
    samples = read_samples(slot / test["samples"], test["count"])
    model = load(slot / content["model"], runtime["name"], threads=runtime["threads"], precision=runtime["precision"])
    try:
        got = [model.run(inputs) for inputs, _ in samples]
        seconds, calls = (_GLANCE_SECONDS, _GLANCE_CALLS) if test["latency_us"] is None else (_SECONDS, _CALLS)
        laps = model.time(samples[0][0], seconds, calls)
        return {
            "deviation": deviation([expected for _, expected in samples], got),
            "p50_us": int(np.median(laps) / 1000),
            "peak_kb": memory.peak() >> 10,
            "samples": len(samples),
            "circumstances": model.circumstances,
        }
    finally:
        model.close()


def attempt_engine(slot: Path, content: dict[str, Any], engine: Path, trtexec: str) -> dict[str, Any]:
    """Run every sample through a TensorRT engine.

    Raises:
        ValueError: ``trtexec`` failed, or gave no outputs that fit.
    """
    samples = read_samples(slot / content["selftest"]["samples"], content["selftest"]["count"])
    got = [_run_engine(engine, trtexec, inputs, expected) for inputs, expected in samples]
    return {"deviation": deviation([expected for _, expected in samples], got), "samples": len(samples)}


def _run_engine(engine: Path, trtexec: str, inputs: Arrays, expected: Arrays) -> Arrays:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"input{number}.bin" for number, name in enumerate(inputs)}
        for name, array in inputs.items():
            files[name].write_bytes(np.ascontiguousarray(array).tobytes())
        given = ",".join(f"{name}:{file}" for name, file in files.items())
        out = Path(folder) / "outputs.json"
        command = [trtexec, f"--loadEngine={engine}", f"--loadInputs={given}", f"--exportOutput={out}"]
        command += ["--iterations=1", "--warmUp=0", "--duration=0"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode or not out.is_file():
            raise ValueError(f"trtexec ended with status {done.returncode}")
        told = {entry["name"]: np.array(entry["values"]) for entry in json.loads(out.read_text(encoding="utf-8"))}
    return {name: told[name].reshape(array.shape) for name, array in expected.items() if name in told}


def read_samples(path: Path, count: int) -> list[tuple[Arrays, Arrays]]:
    """Read pairs of inputs and expected outputs, each a frame of the runner's protocol.

    Raises:
        ValueError: not as many as the manifest says, or an empty one.
        ProtocolError: malformed.
    """
    if path.stat().st_size > _SAMPLES_LIMIT:
        raise ValueError(f"more than {_SAMPLES_LIMIT} bytes of samples")
    frames = []
    with path.open("rb", buffering=0) as stream:
        while (frame := protocol.unpack(stream.readinto)) is not None:
            frames.append(frame[1])
    if len(frames) != 2 * count or not all(frame and all(array.size for array in frame.values()) for frame in frames):
        raise ValueError(f"{len(frames) // 2} samples where the manifest says {count}")
    return list(zip(frames[::2], frames[1::2]))  # noqa: B905 - strict needs Python 3.10


def deviation(expected: list[Arrays], got: list[Arrays]) -> float:
    """Largest difference of any value, as a share of the range that the output's expected values span over all samples.

    Raises:
        ValueError: outputs of other names or shapes than expected.
    """
    worst = 0.0
    for name in expected[0]:
        for mine, wanted in zip(got, expected):  # noqa: B905 - strict needs Python 3.10
            if mine.keys() != wanted.keys() or mine[name].shape != wanted[name].shape:
                raise ValueError(f"output {name!r} has another name or shape than expected")
        known = np.concatenate([sample[name].ravel() for sample in expected]).astype(np.float64)
        found = np.concatenate([sample[name].ravel() for sample in got]).astype(np.float64)
        if not np.isfinite(known).all():
            raise ValueError(f"output {name!r} is expected to be no number")
        span = max(float(known.max() - known.min()), 1e-12)
        worst = max(worst, float(np.abs(found - known).max()) / span) if np.isfinite(found).all() else float("inf")
    return worst
