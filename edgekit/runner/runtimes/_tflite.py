"""What the two TFLite interpreters share: today's of ai-edge-litert and the legacy one of tflite-runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Arrays, Runtime, Tensor, failed, not_loadable, symbol, version_of  # noqa: TID252 - also loaded under another name
from ._buckets import Buckets


class TfLite(Runtime):
    """One interpreter with its default delegate (XNNPACK on CPUs that have it)."""

    FORMAT = "tflite"

    def __init__(self, interpreter: Any, threads: int) -> None:
        self._buckets = Buckets(interpreter) if Buckets.there(interpreter) else None
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        names = _signature_names(interpreter, inputs, outputs)
        self._interpreter = interpreter
        self._places: list[int] = [detail["index"] for detail in inputs]
        self._results: list[int] = [detail["index"] for detail in outputs]
        self._shapes: list[tuple[int, ...]] = [tuple(int(size) for size in detail["shape"]) for detail in inputs]
        self.inputs = self._buckets.inputs if self._buckets else tuple(_tensor(detail, names) for detail in inputs)
        self.outputs = self._buckets.outputs if self._buckets else tuple(_tensor(detail, names) for detail in outputs)
        self.circumstances = {
            "runtime": type(self).__module__.rpartition(".")[2],
            "version": version_of(self.PACKAGES[0]),
            "precision": "f32",
            "threads": threads,
        }

    @classmethod
    def load(cls, path: Path, threads: int, precision: str) -> TfLite:
        """Load a flatbuffer and allocate its tensors, which tells whether every operator is known."""
        library = cls.library()
        try:
            interpreter = library.Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as problem:
            raise not_loadable(path, problem) from problem
        return cls(interpreter, threads)

    def prepare(self, feed: Arrays) -> Callable[[], Any]:
        """Copy the arrays into the interpreter, resized if need be; return ``interpreter.invoke``, or a call of the graph that fits."""
        if self._buckets:
            return self._buckets.prepare(feed)
        interpreter = self._interpreter
        shapes = [array.shape for array in feed.values()]
        try:
            if shapes != self._shapes:
                self._shapes = []
                for place, shape in zip(self._places, shapes):  # noqa: B905 - strict needs Python 3.10
                    interpreter.resize_tensor_input(place, shape, strict=True)
                interpreter.allocate_tensors()
                self._shapes = shapes
            for place, array in zip(self._places, feed.values()):  # noqa: B905
                interpreter.set_tensor(place, array)
        except (ValueError, RuntimeError) as problem:
            raise failed(problem) from problem
        call: Callable[[], Any] = interpreter.invoke
        return call

    def collect(self, result: Any) -> list[np.ndarray]:
        """Copy the outputs out of the interpreter."""
        if self._buckets:
            arrays: list[np.ndarray] = result
            return arrays
        return [self._interpreter.get_tensor(place) for place in self._results]


def _signature_names(interpreter: Any, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[int, str]:
    """Names by tensor index from the signature that stands for the main graph, if there is one."""
    main = {detail["index"] for detail in (*inputs, *outputs)}
    for key in interpreter.get_signature_list():
        signature = interpreter.get_signature_runner(key)
        details = (*signature.get_input_details().items(), *signature.get_output_details().items())
        names = {detail["index"]: name for name, detail in details}
        if main == set(names):
            return names
    return {}


def _tensor(detail: dict[str, Any], names: dict[int, str]) -> Tensor:
    name = names.get(detail["index"]) or detail["name"].replace("serving_default_", "", 1).rsplit(":", 1)[0]
    sizes = detail.get("shape_signature", detail["shape"])
    sizes = sizes if len(sizes) == len(detail["shape"]) else detail["shape"]
    shape = tuple(symbol(axis) if size < 0 else int(size) for axis, size in enumerate(sizes))
    return Tensor(name, np.dtype(detail["dtype"]).name, shape)
