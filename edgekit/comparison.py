"""Compares runs: what a change of model, recipe, library or machine did to accuracy, latency, size and memory.

Figures are set against each other only where that says something: accuracies on the same evaluation set, latencies from the same
machine with as many threads. The rest is shown beside each other, with the reason, and no gate uses it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from edgekit.core.errors import InputError
from edgekit.core.report import Check, Interval, ModelResult, Report, Status, load_report
from edgekit.core.schema import Schema, parse

Finding = Literal["better", "worse", "same", "within noise", "not comparable", "not measured"]


class Delta(Schema):
    """One figure of a model in both runs."""

    baseline: float | None
    run: float | None
    change: Interval | None = Field(None, description="Points for accuracy; run divided by baseline for the others.")
    finding: Finding
    reason: str = Field("", description="Why the two are not comparable or not measured.")


class Pair(Schema):
    """A model in both runs, or what both deliver for a target."""

    subject: str = Field(description="Id of the model, or name of the target.")
    baseline: str | None = Field(description="Id in the baseline; None where it has no such model.")
    run: str | None
    baseline_status: Status | None = None
    run_status: Status | None = None
    accuracy: Delta
    latency: Delta
    size: Delta
    memory: Delta


class Changed(Schema):
    """A fact that differs between the runs."""

    name: str
    baseline: str | None
    run: str | None


class Side(Schema):
    """One of the compared runs."""

    path: str
    name: str
    status: Status
    edgekit: str
    machine: str


class RunComparison(Schema):
    """One run against the baseline."""

    run: Side
    delivered: tuple[Pair, ...] = Field(description="What is delivered, by target.")
    models: tuple[Pair, ...] = Field(description="Models that both runs have.")
    only_baseline: tuple[str, ...] = Field((), description="Models that only the baseline has.")
    only_run: tuple[str, ...] = ()
    versions: tuple[Changed, ...] = ()
    machine: tuple[Changed, ...] = ()
    settings: tuple[Changed, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = Field((), description="One a gate and target; a model where a run judged no target.")


class Comparison(Schema):
    """Runs against the first one."""

    schema_version: Literal[1] = Field(1, alias="schema")
    baseline: Side
    runs: tuple[RunComparison, ...]
    status: Status | None = Field(description="The gates' verdict; None where none was asked for.")

    @property
    def exit_code(self) -> int:
        """1 when a gate failed."""
        return int(self.status == "fail")


class Gates(Schema):
    """What a run may lose against the baseline."""

    model_config = ConfigDict(allow_inf_nan=False)

    max_drop: float | None = Field(None, ge=0, description="Points of the primary metric.")
    max_slowdown: float | None = Field(None, gt=0, description="Times the baseline's median latency.")
    max_growth: float | None = Field(None, gt=0, description="Times the baseline's bytes on disk.")


def compare(
    paths: Sequence[Path], *, max_drop: float | None = None, max_slowdown: float | None = None, max_growth: float | None = None
) -> Comparison:
    """Compare runs with the first one.

    Gates judge what each run delivers for a target; in reports without targets, every model that both have. A loss of accuracy
    fails a gate when it is beyond the limit and its interval leaves out zero; a slowdown when it is beyond the limit and the
    intervals of the two medians don't overlap. Whatever is beyond a limit but may be chance is inconclusive.

    Args:
        paths: report files or run folders, two at least.
        max_drop: points of the primary metric that may be lost.
        max_slowdown: times the baseline's median latency that a model may take.
        max_growth: times the baseline's bytes on disk that a model may have.

    Raises:
        InputError: fewer than two runs, no report at a path, a gate out of its bounds, or gates for runs that have nothing in common.
    """
    if len(paths) < 2:
        raise InputError("compare needs two runs at least", hint="edgekit compare RUN_A RUN_B")
    gates = parse(Gates, {"max_drop": max_drop, "max_slowdown": max_slowdown, "max_growth": max_growth}, "compare", InputError)
    baseline, *others = [load_report(path) for path in paths]
    runs = tuple(_against(baseline, other, path, gates) for other, path in zip(others, paths[1:], strict=True))
    checks = [check for run in runs for check in run.checks]
    return Comparison(baseline=_side(baseline, paths[0]), runs=runs, status=_overall(checks))


def _against(baseline: Report, run: Report, path: Path, gates: Gates) -> RunComparison:
    delivered, models, alone = _delivered(baseline, run), *_models(baseline, run)
    wanted = gates.model_dump(exclude_none=True)
    gated = delivered or tuple(p for p in models if p.subject != "original")
    if wanted and not gated:
        raise InputError(f"{path}: shares no target and no model with the baseline", hint="compare runs of the same targets")
    shared = {p.subject for p in delivered}
    missing = [t.target for t in baseline.targets if delivered and t.target not in shared and len(baseline.targets) > 1]
    return RunComparison(
        run=_side(run, path),
        delivered=delivered,
        models=models,
        only_baseline=alone[0],
        only_run=alone[1],
        versions=_changed(_versions(baseline), _versions(run)),
        machine=_changed(baseline.provenance.machine.model_dump(), run.provenance.machine.model_dump()),
        settings=_changed(_settings(baseline), _settings(run)),
        notes=(*_notes(baseline, run), *(f"the run was not made for {target}, which the baseline delivers for" for target in missing)),
        checks=(
            *(_check(name, limit, pair) for pair in gated for name, limit in wanted.items()),
            *(_left_out(name, limit, target) for target in missing for name, limit in wanted.items()),
        ),
    )


def _side(report: Report, path: Path) -> Side:
    made = report.provenance
    return Side(path=str(path), name=report.name, status=report.status, edgekit=made.edgekit, machine=made.machine.cpu)


def _delivered(baseline: Report, run: Report) -> tuple[Pair, ...]:
    """Pair what is delivered, by target; the only target of one run with the only target of the other."""
    old, new = ({t.target: t for t in report.targets} for report in (baseline, run))
    names = [(name, name) for name in old if name in new]
    if not names and len(old) == len(new) == 1:
        names = [(next(iter(old)), next(iter(new)))]
    pairs = []
    for before, after in names:
        models = [_find(report, target.chosen) for report, target in ((baseline, old[before]), (run, new[after]))]
        subject = before if before == after else f"{before} -> {after}"
        statuses = {"baseline_status": old[before].status, "run_status": new[after].status}
        pairs.append(_pair(subject, models[0], models[1], baseline, run).model_copy(update=statuses))
    return tuple(pairs)


def _models(baseline: Report, run: Report) -> tuple[tuple[Pair, ...], tuple[tuple[str, ...], tuple[str, ...]]]:
    """Pair the models that both runs have; by what follows the target's name where the runs are for one target each."""
    crossed = len(baseline.targets) == len(run.targets) == 1 and baseline.targets[0].target != run.targets[0].target
    old, new = ({_key(m, crossed): m for m in report.models} for report in (baseline, run))
    pairs = tuple(_pair(key, old[key], new[key], baseline, run) for key in old if key in new)
    alone = tuple(tuple(m.id for key, m in one.items() if key not in other) for one, other in ((old, new), (new, old)))
    return pairs, (alone[0], alone[1])


def _key(model: ModelResult, crossed: bool) -> str:
    return model.id.removeprefix(f"{model.target}/") if crossed else model.id


def _find(report: Report, wanted: str | None) -> ModelResult | None:
    return next((m for m in report.models if m.id == wanted), None)


def _pair(subject: str, before: ModelResult | None, after: ModelResult | None, baseline: Report, run: Report) -> Pair:
    machines = _machines_differ(baseline, run)
    return Pair(
        subject=subject,
        baseline=before.id if before else None,
        run=after.id if after else None,
        baseline_status=before.status if before else None,
        run_status=after.status if after else None,
        accuracy=_accuracy(before, after, _sets_differ(baseline, run), same_original=not _originals_differ(baseline, run)),
        latency=_latency(before, after, machines),
        size=_exact(_bytes(before), _bytes(after), ""),
        memory=_exact(_peak(before), _peak(after), machines),
    )


def _bytes(model: ModelResult | None) -> float | None:
    return float(model.size.raw) if model and model.size else None


def _peak(model: ModelResult | None) -> float | None:
    return model.memory.peak_mb if model and model.memory else None


def _accuracy(before: ModelResult | None, after: ModelResult | None, differ: str, *, same_original: bool) -> Delta:
    """Difference of the changes from the original, in points; of the metrics themselves where the originals differ.

    Both changes are taken as independent (square-and-add: Zou and Donner 2008, doi:10.1002/sim.3095); on the same samples they
    are not, so the interval is rather too wide than too narrow.
    """
    old, new = (m.accuracy if m else None for m in (before, after))
    values = [a.metrics.get(a.primary) if a else None for a in (old, new)]
    if old is None or new is None:
        return _unmeasured(values[0], values[1], "the accuracy was measured in one run only" if old or new else "not evaluated")
    if old.primary != new.primary:
        differ = f"judged by {old.primary} and {new.primary}"
    elif old.samples != new.samples and not differ:
        differ = f"judged on {old.samples} and {new.samples} samples"
    if differ:
        return Delta(baseline=values[0], run=values[1], finding="not comparable", reason=differ)
    a, b = old.change, new.change
    value = b.value - a.value if same_original else new.metrics[new.primary] - old.metrics[old.primary]
    low = value - math.hypot(b.value - b.low, a.high - a.value)
    high = value + math.hypot(b.high - b.value, a.value - a.low)
    change = Interval(value=value, low=low, high=high)
    return Delta(baseline=values[0], run=values[1], change=change, finding=_finding(-high, -low, 0.0))


def _latency(before: ModelResult | None, after: ModelResult | None, machines: str) -> Delta:
    """Ratio of the medians, from the ends of their intervals: it leaves out 1 exactly when the intervals don't overlap."""
    old, new = (m.latency if m else None for m in (before, after))
    a, b = (one.p50 if one else None for one in (old, new))
    values = [one.value if one else None for one in (a, b)]
    if old is None or new is None or a is None or b is None:
        reason = next((one.reason for one in (old, new) if one and one.reason), "the latency was not measured in both runs")
        return _unmeasured(values[0], values[1], reason)
    threads = [one.circumstances.get("threads") for one in (old, new)]
    differ = machines
    if old.basis != "measured" or new.basis != "measured":
        differ = f"{old.basis} and {new.basis}: only measured latencies can be compared"
    elif threads[0] != threads[1] and not differ:
        differ = f"measured with {_words(threads[0])} and {_words(threads[1])} threads"
    if differ:
        return Delta(baseline=values[0], run=values[1], finding="not comparable", reason=differ)
    change = Interval(value=b.value / a.value, low=b.low / a.high, high=b.high / a.low)
    return Delta(baseline=values[0], run=values[1], change=change, finding=_finding(change.low, change.high, 1.0))


def _exact(before: float | None, after: float | None, differ: str) -> Delta:
    """Ratio of two figures without intervals; the same when they agree to a percent's half."""
    if before is None or after is None or before <= 0:
        return _unmeasured(before, after, "not measured in both runs")
    if differ:
        return Delta(baseline=before, run=after, finding="not comparable", reason=differ)
    ratio = after / before
    finding: Finding = "same" if abs(ratio - 1) < 0.005 else "worse" if ratio > 1 else "better"
    return Delta(baseline=before, run=after, change=Interval(value=ratio, low=ratio, high=ratio), finding=finding)


def _unmeasured(before: float | None, after: float | None, reason: str) -> Delta:
    return Delta(baseline=before, run=after, finding="not measured", reason=reason)


def _finding(low: float, high: float, none: float) -> Finding:
    """Name a change of a figure that had better be low."""
    if low == high == none:
        return "same"
    if low > none:
        return "worse"
    return "better" if high < none else "within noise"


def _machines_differ(baseline: Report, run: Report) -> str:
    old, new = baseline.provenance.machine, run.provenance.machine
    if old.cpu != new.cpu or old.architecture != new.architecture:
        return f"measured on different machines: {old.cpu} and {new.cpu}"
    if set(old.features) != set(new.features):
        odd = sorted(set(old.features) ^ set(new.features))
        return f"measured on machines with different instruction sets: {', '.join(odd)} only on one"
    return ""


def _sets_differ(baseline: Report, run: Report) -> str:
    old, new = baseline.provenance.evaluation or {}, run.provenance.evaluation or {}
    if baseline.task != run.task:
        return f"judged as {baseline.task} and as {run.task}"
    same = old["digest"] == new["digest"] if "digest" in old and "digest" in new else old == new
    return "" if same else f"judged on different evaluation sets: {_words(old.get('name'))} and {_words(new.get('name'))}"


def _versions(report: Report) -> dict[str, str]:
    return {"edgekit": report.provenance.edgekit, **report.provenance.packages}


def _settings(report: Report) -> dict[str, Any]:
    made = report.provenance
    sets = {
        f"{kind} {key}": data.get(key)
        for kind in ("calibration", "evaluation")
        if (data := getattr(made, kind))
        for key in ("name", "digest")
    }
    original = next((m.digest for m in report.models if m.role == "original"), None)
    return {"task": report.task, "seed": made.seed, "original": original, **sets, **report.budget.model_dump()}


def _changed(old: dict[str, Any], new: dict[str, Any]) -> tuple[Changed, ...]:
    names = dict.fromkeys([*old, *new])
    different = [name for name in names if old.get(name) != new.get(name)]
    return tuple(Changed(name=n, baseline=_text(old.get(n)), run=_text(new.get(n))) for n in different)


def _notes(baseline: Report, run: Report) -> tuple[str, ...]:
    """What a reader must know before believing the figures."""
    found = [reason for reason in (_sets_differ(baseline, run), _machines_differ(baseline, run)) if reason]
    old, new = _originals(baseline, run)
    if _originals_differ(baseline, run):
        found.append("the originals differ: the change in accuracy is that of the models, whatever their originals have")
    elif old and new:
        ratio = _latency(old, new, _machines_differ(baseline, run))
        if ratio.change and ratio.finding in ("worse", "better"):
            found.append(
                f"the original itself took {ratio.change.value:.2f} times as long: machine, load or framework differ between the runs"
            )
    return tuple(found)


def _originals(*reports: Report) -> tuple[ModelResult | None, ...]:
    return tuple(next((m for m in report.models if m.role == "original"), None) for report in reports)


def _originals_differ(baseline: Report, run: Report) -> bool:
    old, new = _originals(baseline, run)
    return old is not None and new is not None and old.digest != new.digest


def _check(name: str, limit: float, pair: Pair) -> Check:
    if pair.run is None:
        return Check(name=name, status="fail", limit=limit, unit="", message=f"{pair.subject}: the run delivers no model")
    if pair.baseline is None:
        return Check(name=name, status="not measured", limit=limit, unit="", message=f"{pair.subject}: the baseline delivers no model")
    if name == "max_drop":
        return _check_drop(limit, pair)
    delta, what, noun = (pair.latency, "latency", "slowdown") if name == "max_slowdown" else (pair.size, "size", "growth")
    if delta.change is None:
        return Check(name=name, status="not measured", limit=limit, unit="x", message=f"{pair.subject}: {what}: {delta.reason}")
    beyond = delta.change.value > limit
    status: Status = "pass" if not beyond else "inconclusive" if delta.finding == "within noise" else "fail"
    noise = ", within noise" if delta.finding == "within noise" else ""
    said = f"{pair.subject}: {what} {delta.change.value:.3f} times the baseline's{noise}; {noun} may be {limit:g}"
    return Check(name=name, status=status, limit=limit, unit="x", message=said, **delta.change.model_dump())


def _left_out(name: str, limit: float, target: str) -> Check:
    return Check(name=name, status="not measured", limit=limit, unit="", message=f"{target}: the run was not made for it")


def _check_drop(limit: float, pair: Pair) -> Check:
    delta = pair.accuracy
    if delta.change is None:
        return Check(
            name="max_drop", status="not measured", limit=limit, unit="points", message=f"{pair.subject}: accuracy: {delta.reason}"
        )
    drop = Interval(value=-delta.change.value, low=-delta.change.high, high=-delta.change.low)
    beyond = drop.value > limit + 1e-9
    status: Status = "pass" if not beyond else "fail" if drop.low > 0 else "inconclusive"
    verb = f"loses {drop.value:.2f}" if drop.value > 0 else f"gains {-drop.value:.2f}"
    noise = "; that may be chance, more samples would tell" if status == "inconclusive" else ""
    said = f"{pair.subject}: {verb} points [loss {drop.low:.2f} to {drop.high:.2f}] where {limit:g} may be lost{noise}"
    return Check(name="max_drop", status=status, limit=limit, unit="points", message=said, **drop.model_dump())


def _overall(checks: Sequence[Check]) -> Status | None:
    found = {check.status for check in checks}
    order: tuple[Status, ...] = ("fail", "inconclusive", "not measured", "pass")
    return next((status for status in order if status in found), None)


def _words(value: Any) -> str:
    return "an unknown number of" if value is None else str(value)


def _text(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return None if value is None else str(value)
