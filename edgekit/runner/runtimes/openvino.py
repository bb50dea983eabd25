"""OpenVINO IR (and what else OpenVINO reads) on its CPU plugin."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Arrays, RunnerError, Runtime, Tensor, not_loadable, symbol  # noqa: TID252 - also loaded under another name

_DTYPES = {"f32": "float32", "f16": "float16", "f64": "float64", "bf16": "bfloat16", "boolean": "bool"}
_INTEGERS = {f"{kind}{bits}": f"{name}{bits}" for kind, name in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)}


class OpenVino(Runtime):
    """One infer request, reused.

    A model with dynamic axes is compiled for the first shapes that it meets, as a deployed model is reshaped before it is compiled: the
    CPU plugin needs up to twice the time on dynamic shapes. Other shapes share one dynamic compilation.
    """

    FORMAT = "openvino"
    PACKAGES = ("openvino",)
    MODULE = "openvino"
    PRECISIONS = ("f32", "unsaturated", "bf16")

    def __init__(self, path: Path, core: Any, model: Any, library: Any, threads: int, precision: str) -> None:
        self._path = path
        self._core = core
        self._model = model
        self._tensor = partial(library.Tensor, shared_memory=True)
        self._computes_in = "f32" if precision == "unsaturated" else precision
        self._settings = {
            "INFERENCE_PRECISION_HINT": self._computes_in,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            **({"LP_TRANSFORMS_MODE": "NO"} if precision == "unsaturated" else {}),  # rounds to 8 bits and multiplies in float
        }
        self._requests: dict[tuple[tuple[int, ...], ...] | None, Any] = {}
        self._bound: Arrays = {}
        self.inputs = tuple(_tensor(port, f"input_{i}") for i, port in enumerate(model.inputs))
        self.outputs = tuple(_tensor(port, f"output_{i}") for i, port in enumerate(model.outputs))
        self.circumstances = {
            "runtime": "openvino",
            "version": library.__version__.split("-")[0],
            "precision": precision,
            "threads": threads,
        }
        if not model.is_dynamic():
            self._request_for(tuple(tuple(port.get_shape()) for port in model.inputs))

    @classmethod
    def load(cls, path: Path, threads: int, precision: str) -> OpenVino:
        """Read a model, and compile it if its shapes are fixed; otherwise the first inputs decide."""
        library = cls.library()
        core = library.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise RunnerError("input", "this CPU does not execute bf16", "use precision f32")
        try:
            model = core.read_model(str(path))
        except RuntimeError as problem:
            raise not_loadable(path, problem) from problem
        return cls(path, core, model, library, threads, precision)

    def prepare(self, feed: Arrays) -> Callable[[], Any]:
        """Bind the arrays without copying; return a call of ``request.infer``."""
        request = self._request_for(tuple(array.shape for array in feed.values()))
        self._bound = feed  # the request reads the arrays' memory but does not keep them alive
        for index, array in enumerate(feed.values()):
            request.set_input_tensor(index, self._tensor(array))
        return partial(request.infer, share_outputs=True)

    def collect(self, result: Any) -> list[np.ndarray]:
        """Copy the outputs: the request writes over them in the next call."""
        return [np.array(result[index]) for index in range(len(self.outputs))]

    def _request_for(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        if not self._requests and self._model.is_dynamic():
            fixed = self._model.clone()
            fixed.reshape(dict(enumerate(shapes)))
            with suppress(RunnerError):  # folding 4-bit weights into constants fails in OpenVINO 2026.4
                self._requests[shapes] = self._compile(fixed)
        known = shapes if shapes in self._requests else None
        if known not in self._requests:
            self._requests[known] = self._compile(self._model)
        return self._requests[known]

    def _compile(self, model: Any) -> Any:
        try:
            compiled = self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError as problem:
            raise not_loadable(self._path, problem) from problem
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != self._computes_in:
            raise RunnerError("input", f"openvino executes in {used} here, not in {self._computes_in}")
        return compiled.create_infer_request()


def _tensor(port: Any, unnamed: str) -> Tensor:
    kind = port.get_element_type().get_type_name()
    shape = tuple(symbol(axis) if size.is_dynamic else size.get_length() for axis, size in enumerate(port.get_partial_shape()))
    name = port.get_any_name() if port.get_names() else unnamed
    return Tensor(name, _DTYPES.get(kind) or _INTEGERS.get(kind, kind), shape)
