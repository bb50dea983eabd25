"""What edgekit costs on top of the libraries: conversion by a bare script and by ``edgekit compress``, side by side.

``python -m benchmarks.overhead`` converts ResNet-20 to int8 in each format, the bare script and edgekit taking turns in fresh processes
with an empty store, and then with 100 and 10,000 calibration samples. Writes ``benchmarks/results/overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
RECIPE = HERE / "recipes" / "resnet20.yaml"
CALIBRATION = """schema: 1
title: CIFAR-10 pictures for counting memory
read: {{use: npz, path: {path}, inputs: {{input: x}}, labels: y}}
preprocess: {{scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], layout: nchw}}
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found = {name: compared(name, rounds) for name in ("onnx", "openvino", "tflite")}
    memory = {name: grown(name) for name in ("onnx", "openvino", "tflite")}
    content = {
        "command": "python -m benchmarks.overhead",
        "conversion": found,
        "calibration_memory": memory,
        "help_seconds": round(min(timed([sys.executable, "-m", "edgekit", "--help"], {})[0] for _ in range(7)), 3),
    }
    (HERE / "results" / "overhead.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=1))


def compared(name: str, rounds: int) -> dict[str, float]:
    """Median wall seconds and peak MB of both, in interleaved rounds."""
    bare, own = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            bare.append(timed([sys.executable, "-m", f"benchmarks.bare.{name}", folder], {}))
            own.append(timed(edgekit(name, folder), {"EDGEKIT_CACHE": f"{folder}/store"}))
    (bare_s, bare_mb), (own_s, own_mb) = (tuple(statistics.median(column) for column in zip(*runs, strict=True)) for runs in (bare, own))
    return {
        "bare_s": round(bare_s, 2),
        "edgekit_s": round(own_s, 2),
        "time_ratio": round(own_s / bare_s, 3),
        "bare_mb": round(bare_mb),
        "edgekit_mb": round(own_mb),
        "memory_ratio": round(own_mb / bare_mb, 3),
    }


def grown(name: str) -> dict[str, float]:
    """Peak MB of a conversion with 100 and with 10,000 calibration samples."""
    import numpy as np

    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        np.savez_compressed(f"{folder}/many.npz", x=rng.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8), y=np.zeros(10_000, np.int64))
        Path(f"{folder}/many.yaml").write_text(CALIBRATION.format(path=f"{folder}/many.npz"), encoding="utf-8")
        for samples in (100, 10_000):
            recipe = Path(folder) / f"r{samples}.yaml"
            text = RECIPE.read_text(encoding="utf-8").replace("../models", str(HERE / "models"))
            head = "\n".join(line for line in text.splitlines() if not line.startswith("data:"))
            tail = f"\ndata: {{calibration: {folder}/many.yaml}}\nquantization: {{samples: {samples}}}\n"
            recipe.write_text(head + tail, encoding="utf-8")
            command = [*edgekit(name, folder)[:3], "compress", str(recipe), *edgekit(name, folder)[5:]]
            peaks[samples] = timed(command, {"EDGEKIT_CACHE": f"{folder}/store{samples}"})[1]
    return {"mb_100": round(peaks[100]), "mb_10000": round(peaks[10_000]), "ratio": round(peaks[10_000] / peaks[100], 3)}


def edgekit(name: str, folder: str) -> list[str]:
    """The command that converts and verifies, without measuring."""
    wish = ["--format", name, "--precision", "int8", "--no-measure", "-o", f"{folder}/out"]
    runtime = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "litert"}[name]
    return [sys.executable, "-m", "edgekit", "compress", str(RECIPE), *wish, "--runtime", runtime]


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run a program; return wall seconds and peak resident MB."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, **environment}, cwd=HERE.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as run:
        said = run.stderr.read() if run.stderr else b""
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode != 0:
        raise RuntimeError(f"{command} failed: {said.decode()[-2000:]}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
