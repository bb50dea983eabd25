"""The original in its own framework: an exported program (``.pt2``), operator by operator as PyTorch runs it eagerly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Arrays, Runtime  # noqa: TID252 - the runner is also loaded under another name


class PyTorch(Runtime):
    """The program's operators, called under ``torch.inference_mode``."""

    FORMAT = "torch"
    PACKAGES = ("torch",)
    MODULE = "torch"

    def __init__(self, library: Any, program: Any, threads: int) -> None:
        self._torch = library
        self._program = program
        self._threads_before: int = library.get_num_threads()
        library.set_num_threads(threads)
        self.inputs = program.inputs
        self.outputs = program.outputs
        self.circumstances = {"runtime": "pytorch", "version": library.__version__, "precision": "f32", "threads": threads}

    @classmethod
    def load(cls, path: Path, threads: int, precision: str) -> PyTorch:
        """Load an exported program; nothing in it is unpickled."""
        library = cls.library()
        from ._pt2 import read

        return cls(library, read(path), threads)

    def prepare(self, feed: Arrays) -> Callable[[], Any]:
        """Copy the arrays into tensors (a program may write into its inputs); return a call of the program."""
        call, mode = self._program.call, self._torch.inference_mode
        values = [*self._program.weights, *(self._tensor(array) for array in feed.values())]

        def once() -> Any:
            with mode():
                return call(*values)

        return once

    def collect(self, result: Any) -> list[np.ndarray]:
        """Copy the tensors into arrays: an output may be one of the weights."""
        return [tensor.numpy().copy() for tensor in result]

    def _tensor(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(array).clone() if array.flags.writeable else self._torch.from_numpy(array.copy())

    def close(self) -> None:
        """Give PyTorch back its number of threads."""
        self._torch.set_num_threads(self._threads_before)
