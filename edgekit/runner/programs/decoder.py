"""Language models with a key-value cache: one graph reads a prompt, another a single token after what was read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..contract import Arrays, RunnerError, Tensor  # noqa: TID252 - also loaded under another name
from ..program import Component, Program, fixed, named  # noqa: TID252
from ..sampling import Sampler  # noqa: TID252
from ._cache import Cache

STEP = ("input_ids", "position")


class Decoder(Program):
    """Components ``prefill`` (``input_ids`` [1, S] to ``logits`` [1, S, V], keys and values) and ``decode`` (one token and the cache).

    Settings: ``read_at_once`` (tokens of a text that the prefill reads; the rest is read one by one), ``new_tokens`` (what a latency is
    of), ``limit`` (tokens that the model can take), ``stop`` (tokens that end a text).
    """

    def __init__(self, components: Mapping[str, Component], settings: Mapping[str, Any]) -> None:
        super().__init__(components, settings)
        self._prefill, self._decode = components["prefill"], components["decode"]
        self._window = fixed(named(self._prefill.inputs, "input_ids"), 1)
        self._lent = [spec for spec in self._decode.inputs if spec.name not in STEP]
        self._at_once = int(settings["read_at_once"])
        logits = named(self._decode.outputs, "logits")
        self.inputs = tuple(Tensor(name, "int64", (1, "sequence")) for name in ("input_ids", "attention_mask"))
        self.outputs = (Tensor("logits", logits.dtype, (1, "sequence", *logits.shape[2:])),)

    def run(self, inputs: Arrays) -> Arrays:
        """Score every token of a text [1, S]; places of padding, which is behind the text, score zero."""
        tokens = _text(inputs)
        cache = self._empty()
        scores = [self._read(cache, tokens[: self._at_once])]
        scores += [self._step(cache, token)[None] for token in tokens[self._at_once :]]
        known = np.concatenate(scores)
        logits = np.zeros((1, inputs["input_ids"].shape[1], known.shape[1]), known.dtype)
        logits[0, : len(known)] = known
        return {"logits": logits}

    def timed(self, inputs: Arrays) -> Arrays:
        """Read the first tokens of a text and write ``new_tokens`` behind them, the likeliest each time."""
        tokens = _text(inputs)[: self._at_once]
        room = self._empty().limit - len(tokens)
        return self._written(tokens, Sampler({}), max(1, min(int(self.settings["new_tokens"]), room)), ())

    def generate(self, inputs: Arrays, options: Mapping[str, Any]) -> Arrays:
        """Write behind a prompt [1, S], until ``new_tokens`` are there or one of ``stop`` comes."""
        stop = options.get("stop", self.settings["stop"])
        return self._written(_text(inputs), Sampler(options), int(options.get("new_tokens", self.settings["new_tokens"])), stop)

    def _written(self, tokens: np.ndarray, sampler: Sampler, count: int, stop: Any) -> Arrays:
        clock = time.perf_counter_ns
        began = clock()
        cache = self._empty()
        if len(tokens) + count - 1 > cache.limit:
            reason = f"{len(tokens)} tokens and {count} new ones are more than the {cache.limit} that this model holds"
            raise RunnerError("input", reason, "shorten the prompt, or ask for fewer")
        scores = self._read(cache, tokens)[-1]
        written, times = [], []
        while True:
            written.append(sampler.choose(scores))
            times.append(clock() - began)
            if len(written) == count or written[-1] in stop:
                return {"tokens": np.array([written], np.int64), "nanoseconds": np.array(times, np.int64)}
            scores = self._step(cache, written[-1])

    def _empty(self) -> Cache:
        return Cache(self._lent, int(self.settings["limit"]))

    def _read(self, cache: Cache, tokens: np.ndarray) -> np.ndarray:
        """Read tokens [S] from the start: as many at once as the graph takes; return the scores [S, V]."""
        window = self._window or len(tokens)
        first = np.zeros((1, window), np.int64)
        count = min(window, len(tokens))
        first[0, :count] = tokens[:count]
        found = self._prefill.run({"input_ids": first})
        cache.add(found, count)
        scores = [found["logits"][0, :count], *(self._step(cache, token)[None] for token in tokens[count:])]
        return np.concatenate(scores)

    def _step(self, cache: Cache, token: int) -> np.ndarray:
        """Read one more token; return the scores [V] of the next."""
        given = {"input_ids": np.array([[token]], np.int64), "position": np.array([cache.length], np.int64)}
        found = self._decode.run({**given, **cache.lent()})
        cache.add(found, 1)
        return np.asarray(found["logits"][0, 0])


def _text(inputs: Arrays) -> np.ndarray:
    """Tokens [S] of a text without the padding behind it.

    Raises:
        RunnerError: ``input``: there is no token, or padding stands elsewhere.
    """
    tokens = inputs["input_ids"][0]
    count = int((inputs["attention_mask"][0] != 0).sum()) if "attention_mask" in inputs else len(tokens)
    if count == 0 or ("attention_mask" in inputs and not (inputs["attention_mask"][0, :count] != 0).all()):
        raise RunnerError("input", "a text needs at least one token, and padding behind it only", "pad on the right")
    return np.asarray(tokens[:count])
