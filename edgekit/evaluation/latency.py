"""Latency by a race: all models take turns on the same machine, so that whatever slows it for a while slows all of them.

Measured one after the other, the model that ran while the machine was warm, or busy, would look different from one that was not.
Rounds in rotated order make ratios fair, and how the rounds differ says how far a number may be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.algorithms import statistics
from edgekit.core.artifacts import Batch
from edgekit.core.errors import EdgekitError, HostError
from edgekit.core.machine import load_average, this_machine
from edgekit.core.plugin import Host, RuntimeSettings, Session
from edgekit.core.progress import Progress
from edgekit.core.recipe import Measuring
from edgekit.core.report import Basis, Interval, Latency

ALIVE = 12
"""Processes kept at once; further contestants start anew for each of their turns, which costs time and no fairness."""
CALLS_A_ROUND = 5
STABLE = 0.05
"""Share by which the medians of three warm-up blocks in a row may differ."""
NOISY = 0.1
"""Share by which the medians of rounds may differ before the report speaks of noise."""
_BLOCK_SECONDS = 0.05
_BLOCK_CALLS = 3
_WARM_NANOSECONDS = 2_000_000_000
_TELLING_CALLS = 100
_SHOWN = 400


@dataclass(frozen=True)
class Contestant:
    """A model in the race.

    Attributes:
        id: name of its result.
        model: the model file.
        runtime: what runs it.
        settings: threads and execution precision.
        host: where it runs; a host that starts a fresh process for each session.
    """

    id: str
    model: Path
    runtime: str
    settings: RuntimeSettings
    host: Host


@dataclass(frozen=True)
class Timing:
    """What a race found about one contestant.

    Attributes:
        id: the contestant's.
        rounds: nanoseconds of each call, by round; empty when it was not measured.
        warmup_runs: calls before and between rounds that don't count.
        circumstances: runtime, version, threads, host; load of the machine before and after.
        reason: why it was not measured.
    """

    id: str
    rounds: tuple[tuple[int, ...], ...] = ()
    warmup_runs: int = 0
    circumstances: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def medians(self) -> np.ndarray:
        """Median of each round in milliseconds [R]."""
        return np.array([np.median(r) for r in self.rounds]) / 1e6

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Timing:
        """Read what :meth:`save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return Timing(**{**content, "rounds": tuple(tuple(r) for r in content["rounds"])})


def race(
    contestants: Sequence[Contestant], inputs: Batch, measuring: Measuring, progress: Progress, *, alive: int = ALIVE
) -> dict[str, Timing]:
    """Time models against each other in interleaved rounds.

    Each runs until its times are stable; then, round by round and in an order that rotates, each runs for at least
    ``measuring.round_seconds`` and ``CALLS_A_ROUND`` calls. A contestant whose process can't start or dies leaves the race with the reason.

    Args:
        contestants: with unique ids; original, exports and candidates together, so that every ratio has its baseline in the same rounds.
        inputs: one sample, the same for all.
        measuring: rounds and their length.
        progress: told how many turns are done.
        alive: processes kept at once; hosts that start none can keep all.
    """
    load = load_average()
    with ExitStack() as closing:
        lanes = [_Lane(c, keep=len(contestants) <= alive or i < alive - 1) for i, c in enumerate(contestants)]
        for lane in lanes:
            closing.callback(lane.close)
            lane.turn(inputs, None)
        for number in range(measuring.rounds):
            for turn in range(len(lanes)):
                lanes[(number + turn) % len(lanes)].turn(inputs, measuring.round_seconds)
                progress.advance(number * len(lanes) + turn + 1, measuring.rounds * len(lanes))
    around = {"load_before": round(load, 2), "load_after": round(load_average(), 2), "cores": this_machine().cores}
    return {lane.contestant.id: lane.timing(around) for lane in lanes}


def summarise(timing: Timing, *, export: Timing | None, original: Timing | None, basis: Basis = "measured", seed: int = 0) -> Latency:
    """Turn a timing into the report's figures.

    The p50 is the median over rounds of each round's median, and a speedup is the ratio of two such medians over the same rounds, so
    that the printed p50s divide to the printed speedup. p90 and p99 are over all calls; a p99 of fewer than a hundred calls is not given.

    Args:
        timing: the model's.
        export: that of the uncompressed export in the same runtime, from the same race.
        original: that of the original in its framework, from the same race.
        basis: whether this machine is the target or like it.
        seed: of the resampling.
    """
    if not timing.rounds:
        return Latency(basis="not measured", reason=timing.reason or "it did not run")
    milliseconds = [np.asarray(r, dtype=np.float64) / 1e6 for r in timing.rounds]
    pooled = np.sort(np.concatenate(milliseconds))
    shown = pooled[np.linspace(0, len(pooled) - 1, min(_SHOWN, len(pooled))).round().astype(int)]
    telling = len(pooled) >= _TELLING_CALLS
    return Latency(
        basis=basis,
        p50=statistics.median_of_rounds(timing.medians, seed=seed),
        p90=statistics.quantile_of_rounds(milliseconds, 0.9, seed=seed),
        p99=statistics.quantile_of_rounds(milliseconds, 0.99, seed=seed) if telling else None,
        runs=len(pooled),
        rounds=len(timing.rounds),
        warmup_runs=timing.warmup_runs,
        speedup_runtime=_speedup(export, timing, seed),
        speedup_original=_speedup(original, timing, seed),
        samples_ms=tuple(round(float(v), 6) for v in shown),
        circumstances={**timing.circumstances, **_noise(timing)},
    )


def _speedup(baseline: Timing | None, timing: Timing, seed: int) -> Interval | None:
    if baseline is None or not baseline.rounds:
        return None
    return statistics.ratio_of_medians(baseline.medians, timing.medians, seed=seed)


def _noise(timing: Timing) -> dict[str, str]:
    """What disturbed the race, as far as it shows."""
    medians, around = timing.medians, timing.circumstances
    found = []
    if (spread := float((medians.max() - medians.min()) / np.median(medians))) > NOISY:
        found.append(f"the rounds' medians differ by {spread:.0%}")
    busy = min(around.get("load_before", 0.0), around.get("load_after", 0.0))
    if busy > around.get("cores", busy):
        found.append(f"{busy:.1f} processes wanted to run on {around['cores']} cores")
    return {"noise": "the machine was not quiet: " + "; ".join(found)} if found else {}


class _Lane:
    """A contestant with its process, its times, and what became of it."""

    def __init__(self, contestant: Contestant, keep: bool) -> None:
        self.contestant = contestant
        self.keep = keep
        self.session: Session | None = None
        self.rounds: list[tuple[int, ...]] = []
        self.warmup_runs = 0
        self.circumstances: dict[str, Any] = {}
        self.reason = ""

    def turn(self, inputs: Batch, seconds: float | None) -> None:
        """Make ready where need be, then measure for so long; only make ready when ``seconds`` is None."""
        if self.reason:
            return
        try:
            if self.session is None:
                self.session = self._start(inputs)
            else:
                self.warmup_runs += len(self.session.time(inputs, seconds=0, at_least=_BLOCK_CALLS))
            if seconds is not None:
                self.rounds.append(tuple(self.session.time(inputs, seconds=seconds, at_least=CALLS_A_ROUND)))
            if not self.keep:
                self.close()
        except EdgekitError as problem:
            self.reason = problem.message
            self.close()

    def _start(self, inputs: Batch) -> Session:
        """Load the model in its process and run it until its times no longer fall."""
        one = self.contestant
        session = one.host.open(one.model, one.runtime, one.settings)
        self.session = session
        medians: list[float] = []
        spent = 0
        while not _stable(medians) and spent < _WARM_NANOSECONDS:
            block = session.time(inputs, seconds=_BLOCK_SECONDS, at_least=_BLOCK_CALLS)
            medians.append(float(np.median(block)))
            self.warmup_runs += len(block)
            spent += sum(block)
        told = {k: v for k, v in session.circumstances.items() if k != "runtime_memory"}
        self.circumstances = {**told, "warm_up": "stable" if _stable(medians) else "stopped before it was stable"}
        return session

    def close(self) -> None:
        """Let the process go; one that died already has nothing to say."""
        session, self.session = self.session, None
        if session is not None:
            with suppress(HostError):
                session.close()

    def timing(self, around: dict[str, Any]) -> Timing:
        """Sum up."""
        rounds = () if self.reason else tuple(self.rounds)
        return Timing(self.contestant.id, rounds, self.warmup_runs, {**self.circumstances, **around}, self.reason)


def _stable(medians: Sequence[float]) -> bool:
    """Whether the last three blocks agree."""
    last = medians[-3:]
    return len(last) == 3 and max(last) <= (1 + STABLE) * min(last)
