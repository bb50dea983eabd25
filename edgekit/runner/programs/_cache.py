"""Keys and values of the tokens so far, kept by the program and lent to the graph of a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract import Arrays, RunnerError, Tensor  # noqa: TID252 - also loaded under another name
from ..program import fixed  # noqa: TID252

BLOCK = 64
"""Places that a cache of varying length grows by: a runtime prepares itself for few lengths, not for each."""

NEW = "new_"
"""In front of the name of a tensor: what a graph adds to it."""


class Cache:
    """The tensors of one sequence, [1, places, heads, head size] each.

    Args:
        specs: the cache's inputs of the step's graph.
        limit: tokens that the model can take at most.
    """

    def __init__(self, specs: Sequence[Tensor], limit: int) -> None:
        self.length = 0
        self._fixed = fixed(specs[0], 1) if specs else None
        self.limit = limit if self._fixed is None else min(limit, self._fixed)
        self._room = self._fixed or BLOCK
        self._specs = specs
        self._tensors = {spec.name: self._empty(spec) for spec in specs}

    def add(self, rows: Arrays, count: int) -> None:
        """Keep the first ``count`` rows of new keys and values [1, S, heads, head size], named ``new_key_0`` and so on.

        Raises:
            RunnerError: ``input``: the sequence is longer than the model can take.
        """
        end = self.length + count
        if end > self.limit:
            raise RunnerError("input", f"{end} tokens are more than the {self.limit} that this model holds")
        while end > self._room:
            self._grow()
        for name, tensor in self._tensors.items():
            tensor[:, self.length : end] = rows[NEW + name][:, :count]
        self.length = end

    def lent(self) -> Arrays:
        """The tensors as the graph takes them, with a free place behind the last token."""
        if self.length >= self.limit:
            raise RunnerError("input", f"the model holds {self.limit} tokens, all of them taken")
        while self._fixed is None and self.length >= self._room:
            self._grow()
        return self._tensors

    def _grow(self) -> None:
        self._room += BLOCK
        for spec in self._specs:
            old = self._tensors[spec.name]
            self._tensors[spec.name] = self._empty(spec)
            self._tensors[spec.name][:, : old.shape[1]] = old

    def _empty(self, spec: Tensor) -> np.ndarray:
        shape = (1, self._room, *(int(size) for size in spec.shape[2:]))
        return np.zeros(shape, spec.dtype)
