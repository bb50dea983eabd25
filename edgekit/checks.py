"""Budgets to checks: one line for each limit, with a verdict and words that stand alone in a log.

A verdict rests on the interval, not on the value alone. Pass: value and interval keep the limit. Fail: the value breaks it, for a single
class certainly. Inconclusive: the value keeps it, but the interval reaches beyond, and the message says how many samples would settle it.
What was not measured is never taken for a pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.algorithms import statistics
from edgekit.core.recipe import Budget
from edgekit.core.report import Accuracy, Check, ClassChange, Interval, ModelResult, Status

COLLAPSE = 20.0
"""Points that no class may lose for certain, whatever the budget says: a model that is blind to a class is broken, not compressed."""
ACCURACY_CHECKS = ("max_drop", "class_collapse", "max_class_drop")
GRAVITY: tuple[Status, ...] = ("fail", "inconclusive", "not measured", "pass")
NOT_MEASURING = "measuring was turned off"
_CERTAIN = 0.05
_FEWEST_LOST = 3
_NAMED = 5
_ROUNDING = 1e-9


def check(result: ModelResult, budget: Budget) -> tuple[Check, ...]:
    """Hold a model against a budget, one line for each limit that is set.

    The accuracy limit always is; and where the task has classes, so is the guard against a class that collapses.

    Args:
        result: the model.
        budget: the limits.
    """
    checks = [_drop(result, budget.max_drop)]
    if result.accuracy is not None and (guard := _collapse(result.accuracy)) is not None:
        checks.append(guard)
    if budget.max_class_drop is not None:
        checks.append(_class_drop(result, budget.max_class_drop))
    if budget.min_speedup is not None:
        checks.append(_speedup(result, budget.min_speedup))
    if budget.max_size is not None:
        checks.append(_size(result, budget.max_size))
    if budget.max_latency is not None:
        checks.append(_latency(result, budget.max_latency))
    return tuple(checks)


def status(checks: Sequence[Check]) -> Status:
    """Return the gravest of some checks' verdicts: a failure, then doubt, then ignorance."""
    return next((state for state in GRAVITY if any(c.status == state for c in checks)), "not measured")


def _drop(result: ModelResult, limit: float) -> Check:
    accuracy = result.accuracy
    if accuracy is None or not accuracy.samples:
        return _unknown("max_drop", limit, "points", f"accuracy was not measured: {_why_no_accuracy(result)}")
    drop = _negated(accuracy.change)
    after = accuracy.metrics[accuracy.primary]
    said = f"{accuracy.primary} {after + drop.value:.1f} -> {after:.1f}: {_lost(drop)}, {limit:g} may be lost"
    if drop.value > limit + _ROUNDING:
        state: Status = "fail"
        sure = accuracy.p_value < _CERTAIN if accuracy.p_value is not None else drop.low > 0
        chance = f" (p = {accuracy.p_value:.2g})" if accuracy.p_value is not None else ""
        said += f"; the loss is significant{chance}" if sure else f"; {accuracy.samples} samples can lose that by chance{chance}"
    elif drop.high > limit + _ROUNDING or accuracy.samples < 2:
        state = "inconclusive"
        said += f"; {_enough(drop, accuracy.samples, limit)}"
    else:
        state = "pass"
    worse = surely_worse(accuracy)
    losing = sorted((c for c in accuracy.per_class if c.change < 0), key=lambda c: (c.change * c.samples, c.change))
    if worse:
        said += f"; significantly worse on {listed(worse)}"
    elif state == "fail" and losing:
        said += f"; {len(losing)} of {len(accuracy.per_class)} classes lose, most of all {listed(losing)}"
    if accuracy.basis != "measured":
        said += f" ({accuracy.basis}: not run on the target)"
    return _check("max_drop", state, limit, drop, "points", said)


def _collapse(accuracy: Accuracy) -> Check | None:
    """Guard against classes that die unnoticed in the mean; None where no class has samples enough to tell."""
    judged = [c for c in accuracy.per_class if c.samples >= _FEWEST_LOST]
    if not judged:
        return None
    gone = [c for c in surely_worse(accuracy) if -c.change > COLLAPSE]
    worst = min(gone or judged, key=lambda c: c.change)
    if gone:
        said = f"{len(gone)} of {len(judged)} classes collapse, losing more than {COLLAPSE:g} points: {listed(gone)}"
    else:
        said = f"no class certainly loses more than {COLLAPSE:g} points"
        if len(judged) < len(accuracy.per_class):
            said += f"; {len(accuracy.per_class) - len(judged)} of {len(accuracy.per_class)} have too few samples to tell"
    return _check("class_collapse", "fail" if gone else "pass", COLLAPSE, _class_interval(worst), "points", said)


def _class_drop(result: ModelResult, limit: float) -> Check:
    """Judge each class; a class fails when its loss is certain, so that five samples a class don't fail by chance."""
    accuracy = result.accuracy
    if accuracy is None or not accuracy.per_class:
        why = "this task has no classes" if accuracy else f"accuracy was not measured: {_why_no_accuracy(result)}"
        return _unknown("max_class_drop", limit, "points", why)
    over = sorted((c for c in accuracy.per_class if -c.change > limit + _ROUNDING), key=lambda c: c.change)
    failing = [c for c in surely_worse(accuracy) if -c.change > limit + _ROUNDING]
    unsure = [c for c in accuracy.per_class if _class_interval(c).high > limit + _ROUNDING]
    if failing:
        said = f"{len(failing)} of {len(accuracy.per_class)} classes certainly lose more than {limit:g} points: {listed(failing)}"
        return _check("max_class_drop", "fail", limit, _class_interval(failing[0]), "points", said)
    if over:
        said = f"{len(over)} of {len(accuracy.per_class)} classes lose more than {limit:g} points, which may be chance: {listed(over)}"
        said += f"; {_enough(_class_interval(over[0]), over[0].samples, limit)} in {over[0].name}"
        return _check("max_class_drop", "inconclusive", limit, _class_interval(over[0]), "points", said)
    if unsure:
        widest = max(unsure, key=lambda c: _class_interval(c).high)
        said = f"no class loses more than {limit:g} points, but {len(unsure)} of {len(accuracy.per_class)} could, {widest.name} most of all"
        said += f" ({_lost(_class_interval(widest))}): {_enough(_class_interval(widest), widest.samples, limit)} in it"
        return _check("max_class_drop", "inconclusive", limit, _class_interval(widest), "points", said)
    worst = min(accuracy.per_class, key=lambda c: c.change)
    return _check("max_class_drop", "pass", limit, _class_interval(worst), "points", f"no class loses more than {limit:g} points")


def _speedup(result: ModelResult, limit: float) -> Check:
    speedup = measured_speedup(result)
    if speedup is None:
        return _unknown("min_speedup", limit, "x", f"speed was not measured: {_why_no_latency(result)}")
    said = f"{times(speedup)} as fast as float in {result.runtime}, at least {limit:g}x is wanted"
    if result.role == "export":
        said = f"is the uncompressed export itself, at least {limit:g}x its speed is wanted"
    if speedup.value < limit - _ROUNDING:
        state: Status = "fail"
    elif speedup.low < limit - _ROUNDING:
        state, said = "inconclusive", f"{said}; the rounds differ too much to tell: measure more rounds, on a quieter machine"
    else:
        state = "pass"
    return _check("min_speedup", state, limit, speedup, "x", said)


def _size(result: ModelResult, limit: float) -> Check:
    if result.size is None:
        return _unknown("max_size", limit, "MB", "size was not measured")
    megabytes = result.size.raw / 1e6
    state: Status = "pass" if megabytes <= limit + _ROUNDING else "fail"
    said = f"{megabytes:.3g} MB on disk, {limit:g} MB allowed"
    return Check(name="max_size", status=state, limit=limit, value=megabytes, unit="MB", message=said)


def _latency(result: ModelResult, limit: float) -> Check:
    latency = result.latency
    if latency is None or latency.basis != "measured" or latency.p50 is None:
        return _unknown("max_latency", limit, "ms", f"latency was not measured: {_why_no_latency(result)}")
    p50 = latency.p50
    said = f"{p50.value:.3g} ms at the median [{p50.low:.3g}, {p50.high:.3g}], {limit:g} ms allowed"
    if p50.value > limit + _ROUNDING:
        state: Status = "fail"
    elif p50.high > limit + _ROUNDING:
        state, said = "inconclusive", f"{said}; the rounds differ too much to tell: measure more rounds, on a quieter machine"
    else:
        state = "pass"
    return _check("max_latency", state, limit, p50, "ms", said)


def surely_worse(accuracy: Accuracy) -> list[ClassChange]:
    """Classes that lost for certain, worst first: by McNemar's test, or because far more than their share of what changed fell on them.

    McNemar's test knows nothing of the other classes and needs six samples to be sure of anything. But where two percent of all
    predictions change, three of three lost in one class are no accident either: under the rate at which the other samples changed
    (taken twice, as classes differ in difficulty) so many losses have a binomial chance, corrected by Holm over the classes.
    """
    sure = [c.significant for c in accuracy.per_class]
    if accuracy.p_value is not None:
        changed = accuracy.changed / 100 * accuracy.samples
        chances = []
        for one in accuracy.per_class:
            lost = round(-one.change / 100 * one.samples)
            rate = min(1.0, 2 * (changed - lost + 1) / (accuracy.samples - one.samples + 2))
            chances.append(statistics.binomial_tail(lost, one.samples, rate) if lost >= _FEWEST_LOST else 1.0)
        sure = [known or bool(p < _CERTAIN) for known, p in zip(sure, statistics.holm(chances), strict=True)]
    return sorted((c for c, certain in zip(accuracy.per_class, sure, strict=True) if certain and c.change < 0), key=lambda c: c.change)


def measured_speedup(result: ModelResult) -> Interval | None:
    """Speedup over the export in the same runtime; the export's own is one by definition."""
    latency = result.latency
    if latency is None or latency.basis != "measured":
        return None
    return Interval(value=1.0, low=1.0, high=1.0) if result.role == "export" else latency.speedup_runtime


def _why_no_accuracy(result: ModelResult) -> str:
    return NOT_MEASURING if result.latency is None else "no evaluation set is named"


def _why_no_latency(result: ModelResult) -> str:
    latency = result.latency
    if latency is None:
        return NOT_MEASURING
    if latency.basis not in ("measured", "not measured"):
        return f"it is {latency.basis}"
    return latency.reason or "it has no baseline"


def _enough(drop: Interval, samples: int, limit: float) -> str:
    """How many samples would settle a doubt."""
    needed = statistics.samples_needed((drop.high - drop.low) / 200, samples, abs(limit - drop.value) / 100)
    if needed is None or needed > 1_000_000:
        return f"{samples} samples can't tell, as the value is at the limit"
    digits = max(0, math.floor(math.log10(needed)) - 1)
    rounded = math.ceil(needed / 10**digits) * 10**digits
    return f"{samples} samples can't tell, about {max(rounded, samples + 1):,} would"


def _lost(drop: Interval) -> str:
    word = "loses" if drop.value >= 0 else "gains"
    digits = 1 if drop.high - drop.low >= 1 else 2
    return f"{word} {abs(drop.value):.{digits}f} points [loss {drop.low:.{digits}f} to {drop.high:.{digits}f}]"


def listed(classes: Sequence[ClassChange]) -> str:
    """Name the first few classes with what they lost, and on how many samples."""
    shown = [f"{c.name} ({c.original:.0f} -> {c.candidate:.0f}, {c.samples} {'sample' if c.samples == 1 else 'samples'})" for c in classes]
    return ", ".join(shown[:_NAMED]) + (f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else "")


def _class_interval(one: ClassChange) -> Interval:
    """A class's loss; without a known interval, anything is possible."""
    low = -100.0 if one.high is None else 0.0 - one.high
    high = 100.0 if one.low is None else 0.0 - one.low
    return Interval(value=0.0 - one.change, low=low, high=high)


def times(ratio: Interval) -> str:
    """A ratio with its interval: ``2.70x [2.61, 2.78]``."""
    return f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"


def _negated(interval: Interval) -> Interval:
    return Interval(value=0.0 - interval.value, low=0.0 - interval.high, high=0.0 - interval.low)


def _check(name: str, state: Status, limit: float, found: Interval, unit: str, message: str) -> Check:
    return Check(name=name, status=state, limit=limit, value=found.value, low=found.low, high=found.high, unit=unit, message=message)


def _unknown(name: str, limit: float, unit: str, message: str) -> Check:
    return Check(name=name, status="not measured", limit=limit, unit=unit, message=message)
