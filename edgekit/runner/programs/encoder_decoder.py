"""Models that read a whole source once and then write about it: translation, summaries, transcripts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..contract import Arrays, RunnerError, Tensor  # noqa: TID252 - also loaded under another name
from ..program import Component, Program, fixed, named  # noqa: TID252
from ..sampling import Sampler  # noqa: TID252
from ._cache import Cache

MASK = "attention_mask"
STEP = ("input_ids", "position", MASK)


class EncoderDecoder(Program):
    """Components ``encoder`` (the source to keys and values of the decoder's attention to it) and ``decoder`` (one token and all caches).

    Settings: ``start`` (tokens that stand in front of each text), ``forced`` (the first and the last token written, or null),
    ``suppressed`` and ``suppressed_first`` (tokens never written, or never first), ``stop`` (tokens that end a text), ``pad`` (what stands
    behind the end), ``new_tokens`` (the most that are written), ``limit`` (tokens that the decoder's cache holds).
    """

    def __init__(self, components: Mapping[str, Component], settings: Mapping[str, Any]) -> None:
        super().__init__(components, settings)
        self._encoder, self._decoder = components["encoder"], components["decoder"]
        self._cross = [spec.name for spec in self._encoder.outputs]
        self._lent = [spec for spec in self._decoder.inputs if spec.name not in (*STEP, *self._cross)]
        self._masked = any(spec.name == MASK for spec in self._decoder.inputs)
        self._count = int(settings["new_tokens"])
        self.inputs = tuple(_of_source(spec) for spec in self._encoder.inputs)
        scores = named(self._decoder.outputs, "logits").dtype
        self.outputs = (Tensor("tokens", "int64", (1, self._count)), Tensor("log_likelihood", scores, (1, self._count)))

    def run(self, inputs: Arrays) -> Arrays:
        """Write the likeliest token each time; return all [1, N], padded, with the logarithm of each one's likelihood."""
        tokens, scores, _ = self._written(inputs, Sampler({}), self._count, self.settings["stop"])
        padded = np.full((1, self._count), self.settings["pad"], np.int64)
        likelihoods = np.zeros((1, self._count), self.outputs[1].dtype)
        padded[0, : len(tokens)] = tokens
        likelihoods[0, : len(tokens)] = [_log_likelihood(row, token) for row, token in zip(scores, tokens)]  # noqa: B905
        return {"tokens": padded, "log_likelihood": likelihoods}

    def generate(self, inputs: Arrays, options: Mapping[str, Any]) -> Arrays:
        """Write about a source until ``new_tokens`` are there or one of ``stop`` comes."""
        count = min(int(options.get("new_tokens", self._count)), self._count)
        tokens, _, times = self._written(inputs, Sampler(options), count, options.get("stop", self.settings["stop"]))
        return {"tokens": np.array([tokens], np.int64), "nanoseconds": np.array(times, np.int64)}

    def _written(self, inputs: Arrays, sampler: Sampler, count: int, stop: Sequence[int]) -> tuple[list[int], list[np.ndarray], list[int]]:
        clock = time.perf_counter_ns
        began = clock()
        source = {spec.name: _padded(inputs[spec.name], spec) for spec in self._encoder.inputs}
        known = self._encoder.run(source)
        if self._masked:
            known[MASK] = source[MASK]
        cache = Cache(self._lent, int(self.settings["limit"]))
        for token in self.settings["start"][:-1]:
            self._step(cache, known, token)
        last = int(self.settings["start"][-1])
        tokens: list[int] = []
        scores: list[np.ndarray] = []
        times: list[int] = []
        while len(tokens) < count and (not tokens or last not in stop):
            row = self._step(cache, known, last)
            last = self._chosen(row, sampler, first=not tokens, final=len(tokens) + 1 == self._count)
            tokens.append(last)
            scores.append(row)
            times.append(clock() - began)
        return tokens, scores, times

    def _chosen(self, scores: np.ndarray, sampler: Sampler, *, first: bool, final: bool) -> int:
        """Choose a token by the model's own rules."""
        forced_first, forced_last = self.settings["forced"]
        forced = forced_first if first and forced_first is not None else forced_last if final else None
        if forced is not None:
            return int(forced)
        barred = [*self.settings["suppressed"], *(self.settings["suppressed_first"] if first else ())]
        if barred:
            scores = scores.copy()
            scores[barred] = -np.inf
        return sampler.choose(scores)

    def _step(self, cache: Cache, known: Arrays, token: int) -> np.ndarray:
        """Read one more token; return the scores [V] of the next."""
        given = {"input_ids": np.array([[token]], np.int64), "position": np.array([cache.length], np.int64)}
        found = self._decoder.run({**given, **known, **cache.lent()})
        cache.add(found, 1)
        return np.asarray(found["logits"][0, 0])


def _of_source(spec: Tensor) -> Tensor:
    """An input of the whole: one source; shorter ones than a graph's fixed length are padded, so that its length varies."""
    integer = np.dtype(spec.dtype).kind == "i"
    sizes = ("sequence",) if integer else spec.shape[1:]
    return Tensor(spec.name, "int64" if integer else spec.dtype, (1, *sizes))


def _padded(array: np.ndarray, spec: Tensor) -> np.ndarray:
    """Pad tokens or their mask [1, S] with zeros up to a graph's fixed length.

    Raises:
        RunnerError: ``input``: the source is longer.
    """
    length = fixed(spec, 1)
    if array.ndim != 2 or length is None or array.shape[1] == length:
        return array
    if array.shape[1] > length:
        raise RunnerError("input", f"a source of {array.shape[1]} tokens is longer than the {length} that the model takes")
    return np.pad(array, ((0, 0), (0, length - array.shape[1])))


def _log_likelihood(scores: np.ndarray, token: int) -> float:
    wide = scores.astype(np.float64) - scores.max()
    return float(wide[token] - np.log(np.exp(wide).sum()))
