"""What every runtime promises: one shape for all of them, so that a number from one can stand beside a number from another."""

from __future__ import annotations

import gc
import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
DTYPES = {
    name: np.dtype(name)
    for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
}
"""Element types that can be handed in and out."""


class RunnerError(Exception):
    """Why a model can't be loaded or run.

    Attributes:
        kind: ``missing`` (the runtime is not installed), ``model`` (the file or what it asks of the runtime), ``input`` (the arrays or
            settings handed in) or ``internal`` (the runner itself is wrong).
        message: what is wrong, one line.
        hint: what to do about it; may be empty.
    """

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint


class Tensor(NamedTuple):
    """Name, element type (NumPy's word) and shape of an input or output; a string in the shape is a symbolic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Runtime(ABC):
    """A model loaded in one runtime.

    Attributes:
        FORMAT: the model format it loads (``torch``, ``onnx``, ``openvino``, ``tflite``).
        PACKAGES: distributions whose version decides the numbers; the first one is the runtime itself.
        MODULE: the module to import.
        PRECISIONS: execution precisions that can be asked for. ``unsaturated`` is ``f32`` whose int8 products add up exactly, at whatever
            speed, where x86 kernels before VNNI saturate at 16 bits; a runtime whose kernels never do takes it as ``f32``.
        inputs: in the model's own order.
        outputs: in the model's own order.
        circumstances: runtime, version, execution precision really used, threads.
    """

    FORMAT: ClassVar[str]
    PACKAGES: ClassVar[tuple[str, ...]]
    MODULE: ClassVar[str]
    PRECISIONS: ClassVar[tuple[str, ...]] = ("f32", "unsaturated")

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    circumstances: dict[str, Any]

    @classmethod
    def library(cls) -> Any:
        """Import the runtime's library.

        Raises:
            RunnerError: ``missing``.
        """
        try:
            return importlib.import_module(cls.MODULE)
        except ImportError as problem:
            reason = first_line(problem)
            raise RunnerError("missing", f"{cls.PACKAGES[0]} does not import ({reason})", f"pip install {cls.PACKAGES[0]}") from problem

    @classmethod
    @abstractmethod
    def load(cls, path: Path, threads: int, precision: str) -> Runtime:
        """Load a model file.

        Raises:
            RunnerError: ``missing``, ``model``, or ``input`` for a precision that this machine does not have.
        """

    @abstractmethod
    def prepare(self, feed: Arrays) -> Callable[[], Any]:
        """Bind inputs that :meth:`check` has passed; return a function that makes exactly one call of the runtime."""

    @abstractmethod
    def collect(self, result: Any) -> list[np.ndarray]:
        """Turn what a call gave back into arrays that outlive the next call, in the order of ``outputs``."""

    def generate(self, inputs: Arrays, options: Mapping[str, Any]) -> Arrays:
        """Write new tokens behind a prompt, as :meth:`~edgekit.runner.program.Program.generate` does.

        Raises:
            RunnerError: ``model``: a single graph does not generate.
        """
        raise RunnerError("model", "a single graph does not generate tokens", "divide the model into 'parts'")

    def close(self) -> None:  # noqa: B027 - most runtimes hold nothing that outlives them
        """Give back what the runtime changed in its process."""

    def check(self, given: Arrays) -> Arrays:
        """Return the inputs in the model's order, as it takes them; an int64 array becomes int32 where the model wants that.

        Raises:
            RunnerError: ``input``: a missing, unknown or unfitting array.
        """
        feed: Arrays = {}
        for spec in self.inputs:
            array = given.get(spec.name)
            if array is None:
                raise RunnerError("input", f"input {spec.name!r} is missing; given: {_listing(given)}")
            feed[spec.name] = _fit(array, spec)
        if len(given) != len(feed):
            known = {spec.name for spec in self.inputs}
            unknown = ", ".join(sorted(set(given) - known))
            raise RunnerError("input", f"the model has no input {unknown!r}; it takes: {_listing(feed)}")
        return feed

    def run(self, inputs: Arrays) -> Arrays:
        """Run the model once.

        Raises:
            RunnerError: ``input`` for arrays that don't fit, ``model`` when the runtime fails on them.
        """
        call = self.prepare(self.check(inputs))
        try:
            arrays = self.collect(call())
        except Exception as problem:  # a runtime may raise anything
            raise failed(problem) from problem
        return {spec.name: array for spec, array in zip(self.outputs, arrays)}  # noqa: B905 - strict needs Python 3.10

    def time(self, inputs: Arrays, seconds: float, at_least: int) -> np.ndarray:
        """Call the runtime again and again on the same inputs.

        Args:
            inputs: bound once, before the first call.
            seconds: how long to go on.
            at_least: calls to make even if they take longer.

        Returns:
            Wall time of each call in nanoseconds, int64 [N].
        """
        call = self.prepare(self.check(inputs))
        clock = time.perf_counter_ns
        laps: list[int] = []
        collecting = gc.isenabled()
        gc.disable()
        try:
            end = clock() + int(seconds * 1e9)
            now = 0
            while now < end or len(laps) < at_least:
                start = clock()
                call()
                now = clock()
                laps.append(now - start)
        except Exception as problem:  # a runtime may raise anything
            raise failed(problem) from problem
        finally:
            if collecting:
                gc.enable()
        return np.array(laps, np.int64)


def symbol(axis: int) -> str:
    """Name of a dynamic axis that the model leaves unnamed."""
    return "batch" if axis == 0 else f"axis{axis}"


def version_of(distribution: str) -> str:
    """Version of an installed distribution, or ``unknown``."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def first_line(problem: BaseException | str) -> str:
    """What an exception says, cut to one line."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Exception from src/", "Check '"))] or lines[-1:]  # OpenVINO's own places
    if not lines or isinstance(problem, KeyError):
        return " ".join([type(problem).__name__, *lines[:1]])
    return lines[0][:300]


def not_loadable(path: Path, problem: BaseException | str) -> RunnerError:
    """A model file that the runtime refuses."""
    hint = "the file is damaged, or asks for something that this runtime does not have"
    return RunnerError("model", f"{path.name}: does not load ({first_line(problem)})", hint)


def failed(problem: BaseException) -> RunnerError:
    """A call that the runtime refused."""
    return RunnerError("model", f"the runtime failed on these inputs ({first_line(problem)})")


def _fit(array: np.ndarray, spec: Tensor) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        raise RunnerError("input", f"input {spec.name!r} is {type(array).__name__}, not an array")
    if array.dtype != DTYPES.get(spec.dtype):
        array = _to_int32(array, spec)
    shape = array.shape
    if len(shape) != len(spec.shape):
        raise RunnerError("input", f"input {spec.name!r} has shape {list(shape)}, the model wants {list(spec.shape)}")
    for have, want in zip(shape, spec.shape):  # noqa: B905 - strict needs Python 3.10
        if have == 0 or (have != want and isinstance(want, int)):
            raise RunnerError("input", f"input {spec.name!r} has shape {list(shape)}, the model wants {list(spec.shape)}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _to_int32(array: np.ndarray, spec: Tensor) -> np.ndarray:
    if array.dtype.name == "int64" and spec.dtype == "int32":
        narrow = array.astype(np.int32)
        if np.array_equal(narrow, array):
            return narrow
        raise RunnerError("input", f"input {spec.name!r} has values beyond int32, which the model wants")
    order = "" if array.dtype.isnative else " in foreign byte order"
    raise RunnerError("input", f"input {spec.name!r} is {array.dtype.name}{order}, the model wants {spec.dtype}")


def _listing(arrays: Arrays) -> str:
    return ", ".join(arrays) or "nothing"
