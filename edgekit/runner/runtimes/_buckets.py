"""TFLite files with a graph for each of several lengths: the smallest that fits is chosen, and padding is cut off again.

Such a file has one signature a length, by the name of ``sequence_32``. Inputs are padded with zeros, which an attention mask hides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..contract import Arrays, RunnerError, Tensor  # noqa: TID252 - the runner is also loaded under another name

KEY = "sequence_{}"
SYMBOL = "sequence"
LENGTH_KEY = re.compile(r"sequence_(\d+)")


class Buckets:
    """The graphs of one interpreter, by length.

    Attributes:
        inputs: with a symbolic axis where lengths vary.
        outputs: likewise.
    """

    def __init__(self, interpreter: Any) -> None:
        keys = {int(match[1]): key for key in interpreter.get_signature_list() if (match := LENGTH_KEY.fullmatch(key))}
        self._graphs = {length: interpreter.get_signature_runner(keys[length]) for length in sorted(keys)}
        shortest, longest = (self._graphs[pick(self._graphs)] for pick in (min, max))
        self._axes = _varying(shortest.get_input_details(), longest.get_input_details())
        self._cut = _varying(shortest.get_output_details(), longest.get_output_details())
        self.inputs = _specs(longest.get_input_details(), self._axes)
        self.outputs = _specs(longest.get_output_details(), self._cut)

    @staticmethod
    def there(interpreter: Any) -> bool:
        """Whether a file has such graphs."""
        return sum(bool(LENGTH_KEY.fullmatch(key)) for key in interpreter.get_signature_list()) > 1

    def prepare(self, feed: Arrays) -> Callable[[], Any]:
        """Pad to the smallest length that fits; return one call of that graph, which gives outputs without padding.

        Raises:
            RunnerError: ``input``: longer than the longest graph, or of several lengths.
        """
        sizes = {feed[name].shape[axis] for name, axes in self._axes.items() for axis in axes}
        if len(sizes) != 1:
            raise RunnerError("input", f"inputs of several lengths: {', '.join(map(str, sorted(sizes)))}")
        (size,) = sizes
        length = next((known for known in self._graphs if known >= size), None)
        if length is None:
            raise RunnerError("input", f"inputs of length {size}, the longest that the model takes is {max(self._graphs)}")
        run = self._graphs[length]
        padded = {name: _padded(array, self._axes.get(name, ()), length) for name, array in feed.items()}
        order, cut = [spec.name for spec in self.outputs], self._cut

        def call() -> list[np.ndarray]:
            made = run(**padded)
            return [_shortened(made[name], cut.get(name, ()), size) for name in order]

        return call


def _varying(shortest: dict[str, Any], longest: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Axes that differ between two graphs, by name."""
    found = {}
    for name, detail in longest.items():
        pairs = zip(shortest[name]["shape"], detail["shape"])  # noqa: B905 - strict needs Python 3.10
        axes = tuple(axis for axis, (small, large) in enumerate(pairs) if small != large)
        if axes:
            found[name] = axes
    return found


def _specs(details: dict[str, Any], varying: dict[str, tuple[int, ...]]) -> tuple[Tensor, ...]:
    def shape(name: str, sizes: Any) -> tuple[int | str, ...]:
        return tuple(SYMBOL if axis in varying.get(name, ()) else int(size) for axis, size in enumerate(sizes))

    return tuple(Tensor(name, np.dtype(d["dtype"]).name, shape(name, d["shape"])) for name, d in details.items())


def _padded(array: np.ndarray, axes: tuple[int, ...], length: int) -> np.ndarray:
    width = [(0, length - size if axis in axes else 0) for axis, size in enumerate(array.shape)]
    return np.pad(array, width)


def _shortened(array: np.ndarray, axes: tuple[int, ...], size: int) -> np.ndarray:
    return array[tuple(slice(size if axis in axes else None) for axis in range(array.ndim))]
