"""Reads whatever a function of the user's returns; the way in for data of any other kind.

This executes code, and only because the set's description names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from edgekit.core.datasets import Record
from edgekit.core.errors import DataError
from edgekit.core.factories import RAISED, described, find_function, reference_files, split_reference
from edgekit.core.plugin import Reader
from edgekit.core.resources import expand


class Loader(Reader):
    """A function that returns pairs ``(inputs, label)``.

    ``inputs`` is an array, a text, or a dict of them by input name; ``label`` a class index, a class name or None. A sequence is
    read by index, anything else from its start, so it must give the same samples in the same order every time.
    """

    function: str = Field(description="file.py:function or package.module:function.")
    files_read: tuple[str, ...] = Field(
        (), alias="files", description="Files the function reads: its first arguments, checked and digested."
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for the function.")

    def files(self, base: Path) -> list[Path]:
        """The declared files and the function's code; none where none are declared: then only the samples themselves can be digested."""
        return [*self._paths(base), *reference_files(self._reference(base), DataError)] if self.files_read else []

    def count(self, base: Path) -> int:
        """Length of what the function returns; counted where it has none.

        Raises:
            DataError: no such function, it raises, or it returns something else.
        """
        samples = self._call(base)
        return len(samples) if isinstance(samples, Sized) else sum(1 for _ in self._guarded(iter(samples)))

    def stream(self, base: Path, indices: Sequence[int]) -> Iterator[Record]:
        """Yield the function's samples.

        Raises:
            DataError: the function raises, or a sample is no pair of inputs and label.
        """
        samples = self._call(base)
        if isinstance(samples, Sequence):
            for index in indices:
                try:
                    sample = samples[index]
                except RAISED as problem:
                    raise self._raised(problem) from problem
                yield self._record(sample, index)
            return
        wanted = iter(indices)
        following = next(wanted, None)
        for position, sample in enumerate(self._guarded(iter(samples))):
            if position == following:
                yield self._record(sample, position)
                following = next(wanted, None)
            if following is None:
                return

    def _call(self, base: Path) -> Iterable[Any]:
        function = find_function(self._reference(base), DataError)
        try:
            samples = function(*self._paths(base), **self.arguments)
        except RAISED as problem:
            raise self._raised(problem) from problem
        try:
            iter(samples)
        except TypeError as problem:
            kind = type(samples).__name__
            raise DataError(f"{self.function} returned {kind}", hint="return a list or generator of (inputs, label)") from problem
        return samples  # type: ignore[no-any-return]

    def _reference(self, base: Path) -> str:
        where, name = split_reference(self.function, DataError)
        return f"{expand(where, base)}:{name}" if where.endswith(".py") else self.function

    def _paths(self, base: Path) -> list[Path]:
        return [expand(path, base) for path in self.files_read]

    def _guarded(self, samples: Iterator[Any]) -> Iterator[Any]:
        while True:
            try:
                sample = next(samples)
            except StopIteration:
                return
            except RAISED as problem:
                raise self._raised(problem) from problem
            yield sample

    def _raised(self, problem: BaseException) -> DataError:
        return DataError(f"{self.function} raised {described(problem)}", hint="mend the function, or its 'arguments'")

    def _record(self, sample: Any, index: int) -> Record:
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise DataError(
                f"{self.function}: sample {index} is {type(sample).__name__}, not (inputs, label)", hint="use None for no label"
            )
        inputs, label = sample
        if not isinstance(inputs, dict):
            inputs = {"text" if isinstance(inputs, str) else "input": inputs}
        return Record({str(name): value if isinstance(value, str) else np.asarray(value) for name, value in inputs.items()}, label)
