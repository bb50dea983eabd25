from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.core.errors import HostError, MissingPackageError, SourceError
from edgekit.core.plugin import RuntimeSettings
from edgekit.hosts.in_process import InProcess


def test_errors_of_the_runner_become_edgekits(models: dict[str, Path], tiny: SimpleNamespace, tmp_path: Path) -> None:
    host = InProcess()
    with pytest.raises(MissingPackageError, match=r"legacy.tflite in tflite_runtime: .* needs numpy below 2") as missing:
        host.open(models["tflite_runtime"], "tflite_runtime", RuntimeSettings())
    assert (missing.value.exit_code, "venv" in missing.value.hint) == (3, True)
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(SourceError) as bad:
        host.open(tmp_path / "bad.onnx", "onnxruntime", RuntimeSettings())
    assert bad.value.exit_code == 2
    assert "\n" not in str(bad.value)
    with host.open(models["onnxruntime"], "onnxruntime", RuntimeSettings()) as session, pytest.raises(HostError) as wrong:
        session.run({})
    assert wrong.value.exit_code == 3


def test_arrays_are_handed_over_without_a_copy(models: dict[str, Path], tiny: SimpleNamespace) -> None:
    """The way through the host costs little beside the runtime's own call."""
    import time

    import onnxruntime

    inputs = tiny.batch(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    bare = onnxruntime.InferenceSession(str(models["onnxruntime"]), options, providers=["CPUExecutionProvider"])
    with InProcess().open(models["onnxruntime"], "onnxruntime", RuntimeSettings()) as session:

        def fastest(call) -> float:  # the minimum is what the code costs; the rest is the machine's
            laps = []
            for _ in range(3000):
                began = time.perf_counter_ns()
                call()
                laps.append(time.perf_counter_ns() - began)
            return min(laps) / 1000

        cost = fastest(lambda: session.run(inputs)) - fastest(lambda: bare.run(None, inputs))
    assert cost < 50  # microseconds
