"""The runner: a small program that loads one model in one runtime, wherever it stands.

It needs the standard library, NumPy and the one runtime, nothing of edgekit: so the same folder runs inside a process, as
``python edgekit/runner`` in another environment, under an emulator, or on a board.
"""

from __future__ import annotations

import os
import sys

from .contract import RunnerError, Runtime, Tensor
from .runtimes import load, runtime_class, runtime_names

__all__ = ["RunnerError", "Runtime", "Tensor", "load", "runtime_class", "runtime_names"]

# Unless told before they are imported, ONNX Runtime and OpenVINO report their use over the network and leave files in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes its import fail, which openvino expects
