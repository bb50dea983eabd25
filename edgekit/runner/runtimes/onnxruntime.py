"""ONNX models in ONNX Runtime's CPU provider."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Arrays, Runtime, Tensor, not_loadable, symbol  # noqa: TID252 - also loaded under another name

_PLACE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed:|Exception during initialization: |/\S+:\d+ [^\n]*?\(.*?\) (?=[A-Z])"
)
"""Where in the library and in the file system something failed, which tells a user nothing."""
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(bool)": "bool",
}


class OnnxRuntime(Runtime):
    """One session; sequential execution, all graph optimizations."""

    FORMAT = "onnx"
    PACKAGES = ("onnxruntime",)
    MODULE = "onnxruntime"

    def __init__(self, session: Any, threads: int, precision: str, version: str) -> None:
        self._session = session
        self.inputs = tuple(_tensor(value) for value in session.get_inputs())
        self.outputs = tuple(_tensor(value) for value in session.get_outputs())
        self._names = [output.name for output in self.outputs]
        self.circumstances = {"runtime": "onnxruntime", "version": version, "precision": precision, "threads": threads}

    @classmethod
    def load(cls, path: Path, threads: int, precision: str) -> OnnxRuntime:
        """Load an ONNX file; external data is read from beside it."""
        library = cls.library()
        options = library.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4  # what goes wrong is raised, not printed
        # Threads spin while a call runs, as they do by default, but not for the 50 ms after it: an idle runner that burns a core
        # would slow down whatever is measured next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if precision == "unsaturated":
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # the library's own exceptions share no base but this
            raise not_loadable(path, _PLACE.sub("", str(problem))) from problem
        return cls(session, threads, precision, library.__version__)

    def prepare(self, feed: Arrays) -> Callable[[], Any]:
        """Return a call of ``session.run``."""
        run, names = self._session.run, self._names
        return lambda: run(names, feed)

    def collect(self, result: Any) -> list[np.ndarray]:
        """The session gives arrays of its own for each call."""
        arrays: list[np.ndarray] = result
        return arrays


def _tensor(value: Any) -> Tensor:
    kind: str = value.type
    dtype = _DTYPES.get(kind) or kind[kind.find("(") + 1 : -1]
    shape = tuple(size if isinstance(size, int) else (size or symbol(axis)) for axis, size in enumerate(value.shape))
    return Tensor(value.name, dtype, shape)
