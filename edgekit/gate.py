"""Checks to verdicts: what a report says of each model, which one is delivered, and why, in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgekit.checks import ACCURACY_CHECKS, GRAVITY, check, listed, measured_speedup, status, surely_worse, times
from edgekit.core.recipe import Budget
from edgekit.core.report import Check, Interval, ModelResult, Status, TargetResult
from edgekit.core.target import family

__all__ = ["annotate", "check", "choose", "notes", "status", "summary"]

_BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "int4": 4}
_PROCESS_SPREAD = 0.02


def annotate(result: ModelResult, results: Sequence[ModelResult], budget: Budget) -> ModelResult:
    """Return a result with its verdict and notes; the original is not judged."""
    if result.role == "original":
        return result
    yardstick = [r for r in results if r.role == "export" and (r.target, r.runtime) == (result.target, result.runtime)]
    told = notes(result, yardstick[0] if yardstick else None)
    return result.model_copy(update={"status": status(check(result, budget)), "notes": (*result.notes, *told)})


def notes(result: ModelResult, export: ModelResult | None) -> tuple[str, ...]:
    """Say what the user should know about a candidate: that it gains nothing over its uncompressed export, or what it lost.

    Args:
        result: any model; only candidates have notes.
        export: the uncompressed export for the same runtime.
    """
    if result.role != "candidate":
        return ()
    found = []
    speedup = measured_speedup(result)
    if speedup is not None and speedup.high < 1:
        found.append(f"{result.precision} is {1 / speedup.value:.2f}x slower than float in {result.runtime}")
    elif speedup is not None and speedup.low <= 1:
        found.append(f"{result.precision} is not measurably faster than float in {result.runtime} ({times(speedup)})")
    if export is not None and export.digest != result.digest and _not_smaller(result, export):
        found.append(f"{result.precision} is no smaller than the uncompressed {export.format} file")
    if result.accuracy is not None and (worse := surely_worse(result.accuracy)):
        found.append(f"significantly worse on {listed(worse)}")
    return tuple(found)


def choose(candidates: Sequence[ModelResult], budget: Budget, wish: Literal["fastest", "smallest"] = "fastest") -> tuple[str, str]:
    """Choose what is delivered for a target, and say why in plain words.

    Uncompressed exports among the candidates are legal choices: where float is fastest, float is right. The rules, in order:

    1. What breaks an accuracy limit is out. If everything does, the one that loses least is returned; its checks fail.
    2. What breaks another limit is out, while anything is left. Under a strict budget so is what did not pass, for it would fail the build.
    3. What is not faster (or not smaller, if that is the wish) than its own uncompressed export is out, while anything is left.
    4. The fastest by its median, or the smallest. An inconclusive accuracy stands back for a proven one only where speed is equal within
       noise, or size within one percent: its measured value keeps the limit, and a small evaluation set would else rule out all int8.
    5. Equal in that too, the smaller file, or the faster model.

    Where no latency could be measured, the wish for speed is answered by what is known beforehand: the fewest bits, and among those the
    target's preference, which is the order of the candidates.

    Args:
        candidates: models for one target, in the target's order of preference.
        budget: the limits.
        wish: what is wanted most.

    Raises:
        ValueError: there is nothing to choose from.
    """
    if not candidates:
        raise ValueError("nothing to choose from")
    graded = [_Graded(result, check(result, budget)) for result in candidates]
    failed = [g.result for g in graded if g.breaks(ACCURACY_CHECKS)]
    holding = [g for g in graded if not g.breaks(ACCURACY_CHECKS)]
    if not holding:
        best = max((g.result for g in graded), key=lambda r: r.accuracy.change.value if r.accuracy else -math.inf)
        among = f"none of {len(graded)} models keeps the accuracy limits, this one {_change(best)}"
        return best.id, among if len(graded) > 1 else f"the only model, and it breaks the accuracy limits: {_change(best)}"
    kept = [g for g in holding if not g.breaks()] or holding
    if budget.strict:
        kept = [g for g in kept if g.state == "pass"] or kept
    paying = [g for g in kept if not _gains_nothing(g.result, candidates, wish)] or kept
    best, why = (_fastest if wish == "fastest" else _smallest)(paying)
    if best.role == "export" and any(r.role == "candidate" for r in candidates):
        why += f"; no compressed model that qualifies is {'faster' if wish == 'fastest' else 'smaller'}"
    return best.id, why + _left_out(best, failed, wish)


def summary(state: Status, outcomes: Sequence[TargetResult], results: Sequence[ModelResult]) -> str:
    """Sum up a run in one sentence."""
    if not outcomes:
        return "nothing was judged"
    models = {r.id: r for r in results}
    good = [o for o in outcomes if o.status == "pass"]
    if state == "pass":
        return "; ".join(f"{o.target}: {_figures(models[o.chosen])}" if o.chosen else o.target for o in outcomes[:3]) + (
            f"; {len(outcomes) - 3} more targets pass" if len(outcomes) > 3 else ""
        )
    worst = next(o for state in GRAVITY for o in outcomes if o.status == state)
    said = next((c.message.split("; ")[0] for c in worst.checks if c.status == worst.status), worst.reason)
    held = f"{len(good)} of {len(outcomes)} targets hold the budget; " if len(outcomes) > 1 else ""
    return f"{held}{worst.target}: {said}"


@dataclass(frozen=True)
class _Graded:
    """A model with its checks."""

    result: ModelResult
    checks: tuple[Check, ...]

    @property
    def state(self) -> Status:
        return status(self.checks)

    @property
    def accuracy_is_proven(self) -> bool:
        return all(c.status == "pass" for c in self.checks if c.name in ACCURACY_CHECKS)

    def breaks(self, names: Sequence[str] = ()) -> bool:
        """Whether it fails any check, or any of the named ones."""
        return any(c.status == "fail" for c in self.checks if not names or c.name in names)


def _fastest(field: Sequence[_Graded]) -> tuple[ModelResult, str]:
    timed = [(g, p50) for g in field if (p50 := _p50(g.result)) is not None]
    if not timed:
        best = min(field, key=lambda g: _bits(g.result)).result
        return (
            best,
            f"latency was not measured, so the fewest bits in the target's preferred runtime: {best.precision} in {best.runtime}",
        )
    quickest = min((p50 for _, p50 in timed), key=lambda p50: p50.value)
    equal = [g for g, p50 in timed if _same_speed(quickest, p50)]
    best = min(equal, key=lambda g: (not g.accuracy_is_proven, _bytes(g.result))).result
    speedup = best.latency.speedup_runtime if best.latency else None
    gain = f", {speedup.value:.2f}x as fast as float in {best.runtime}" if speedup and best.role == "candidate" else ""
    among = f"the fastest of {len(field)} that qualify" if len(field) > 1 else "the only one that qualifies"
    rivals = f" (as fast within noise: {', '.join(g.result.id for g in equal if g.result != best)})" if len(equal) > 1 else ""
    return best, f"{among}: {_p50_text(best)}{gain}{rivals}"


def _smallest(field: Sequence[_Graded]) -> tuple[ModelResult, str]:
    least = min(_bytes(g.result) for g in field)
    equal = [g for g in field if _bytes(g.result) <= 1.01 * least]
    best = min(equal, key=lambda g: (not g.accuracy_is_proven, p50.value if (p50 := _p50(g.result)) else math.inf)).result
    among = f"the smallest of {len(field)} that qualify" if len(field) > 1 else "the only one that qualifies"
    return best, f"{among}: {_bytes(best) / 1e6:.3g} MB"


def _left_out(best: ModelResult, failed: Sequence[ModelResult], wish: str) -> str:
    """Name what would have been chosen but for its accuracy."""
    mine = _p50(best)
    if wish == "smallest":
        better = [r for r in failed if _bytes(r) < _bytes(best)]
    elif mine is None:
        better = [r for r in failed if _bits(r) <= _bits(best)]
    else:
        better = [r for r in failed if (p50 := _p50(r)) is not None and p50.value < mine.value]
    if not better:
        return ""
    named = ", ".join(f"{r.id} ({_change(r)})" for r in better[:3]) + (f" and {len(better) - 3} more" if len(better) > 3 else "")
    return f"; left out for accuracy: {named}"


def _gains_nothing(result: ModelResult, field: Sequence[ModelResult], wish: str) -> bool:
    if result.role != "candidate":
        return False
    if wish == "fastest":
        speedup = measured_speedup(result)
        return speedup is not None and speedup.value <= 1
    return any(_not_smaller(result, other) for other in field if other.role == "export" and other.runtime == result.runtime)


def _same_speed(a: Interval, b: Interval) -> bool:
    """Whether two medians can't be told apart: each lies in the other's interval, or they differ by less than processes of one model do."""
    return (a.low <= b.value <= a.high and b.low <= a.value <= b.high) or b.value <= (1 + _PROCESS_SPREAD) * a.value


def _p50(result: ModelResult) -> Interval | None:
    return result.latency.p50 if result.latency and result.latency.basis == "measured" else None


def _p50_text(result: ModelResult) -> str:
    p50 = _p50(result)
    return f"{p50.value:.3g} ms at the median" if p50 else "latency not measured"


def _not_smaller(result: ModelResult, export: ModelResult) -> bool:
    return result.size is not None and export.size is not None and result.size.raw >= export.size.raw


def _bits(result: ModelResult) -> int:
    return _BITS.get(family(result.precision), 32)


def _bytes(result: ModelResult) -> float:
    return result.size.raw if result.size else math.inf


def _change(result: ModelResult) -> str:
    change = result.accuracy.change.value if result.accuracy else 0.0
    return f"{'loses' if change < 0 else 'gains'} {abs(change):.1f} points"


def _figures(result: ModelResult) -> str:
    """A model's main figures in a few words."""
    told = [result.id, _p50_text(result)]
    if result.latency and result.latency.speedup_original:
        told.append(f"{result.latency.speedup_original.value:.1f}x the original")
    if result.accuracy:
        told.append(
            f"{result.accuracy.primary} {result.accuracy.metrics[result.accuracy.primary]:.1f} ({result.accuracy.change.value:+.1f})"
        )
    if result.size:
        told.append(f"{result.size.raw / 1e6:.3g} MB")
    return ", ".join(told)
