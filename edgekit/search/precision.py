"""Accuracy-aware precision: as much in integers as an accuracy budget allows, at the least latency, told by measuring.

All layers are tried in integers first. If that keeps the budget but is slower than float, the layers that do the same in each block are
tried in float together, to find which are slow in integers. If it loses too much, each layer's noise is measured with it alone in integers,
and the noisiest stay in float, by doubling and halving how many until the loss on samples that did not calibrate keeps the budget. Then the
assignments around that one race, and those around the fastest, since an integer layer between float ones may cost more than it saves. The
evaluation set is not read.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.algorithms.assignment import alike, fewest, grown, together, worth_racing
from edgekit.algorithms.sensitivity import decibels, noisiest_first
from edgekit.core.artifacts import Artifact
from edgekit.search._clock import milliseconds
from edgekit.search._judge import Judge
from edgekit.search._samples import divided, in_memory

if TYPE_CHECKING:
    from edgekit.core.plugin import Context, Quantizer
    from edgekit.core.trials import Trials
    from edgekit.search._judge import Opened

RECORD = "search.json"
EQUAL = 0.03
"""Share by which latencies may differ and still count as equal; then the fewest layers in float win."""
FLOAT_MODEL = "all in float"

Floats = frozenset[str]


@dataclass(frozen=True)
class Found:
    """What the search settled on.

    Attributes:
        floats: what stays in float.
        met: whether the budget is kept.
        reasons: why each choice is as it is.
        latencies: milliseconds of the assignments that raced, and of the float model.
    """

    floats: Floats
    met: bool
    reasons: dict[str, str]
    latencies: dict[Floats | str, float]


def assign(
    model: Artifact, quantizer: Quantizer, context: Context, out: Path, *, max_drop: float, judged: Opened, raced: Opened | None
) -> Artifact:
    """Quantize a model as far as a budget allows, and write it with its plan and a record of the search.

    Args:
        model: the float model.
        quantizer: decides and performs.
        context: with calibration samples, training samples where there are some, and the task.
        out: empty folder for the quantized model.
        max_drop: points of the task's primary metric that may be lost.
        judged: loads a model in the runtime that it is for.
        raced: the same, as it will be timed; None where latency here means nothing: then the fewest layers in float count as the fastest.

    Raises:
        QuantizationError: no samples to judge on, or whatever the quantizer refuses.
    """
    began = time.perf_counter()
    calibration, held_out = divided(context)
    context = replace(context, calibration=calibration)
    samples = in_memory(held_out)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        trials = quantizer.trials(model, quantizer.plan(model, context), context)
        judge = Judge(_task(context), samples, model.model, judged, max_drop)
        workshop = _Workshop(model, trials, judge, Path(scratch), raced)
        found = _Search(workshop, context, max_drop, samples[0][0]).run()
        shutil.copytree(workshop.made(found.floats).path, out, dirs_exist_ok=True)
    plan = trials.without(found.floats, found.reasons)
    (out / "plan.json").write_text(json.dumps([row.model_dump() for row in plan], indent=1) + "\n", encoding="utf-8")
    record = {
        "max_drop": max_drop,
        "met": found.met,
        "drop": _told(workshop.drops[found.floats]),
        "judged_on": {"set": held_out.name, "samples": judge.samples, "labelled": judge.labelled},
        "in_float": len(found.floats),
        "choices": len(trials.choices),
        "latency_ms": found.latencies.get(found.floats),
        "all_integer_ms": found.latencies.get(frozenset()),
        "float_ms": found.latencies.get(FLOAT_MODEL),
        "tried": [
            {"in_float": sorted(floats), "drop": _told(drop), "latency_ms": found.latencies.get(floats)}
            for floats, drop in workshop.drops.items()
        ],
        "seconds": round(time.perf_counter() - began, 1),
    }
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return Artifact.load(out)


def summary(made: Artifact) -> tuple[str, ...]:
    """What the report should say of a model that a search made; nothing of any other."""
    file = made.path / RECORD
    if not file.is_file():
        return ()
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    judged = record["judged_on"]
    lost = "all that counts" if record["drop"] is None else f"{record['drop']:.2f} points"
    on = f"on {judged['samples']} samples ({judged['set']}{'' if judged['labelled'] else '; by agreement with the float model'})"
    if record["met"]:
        return (f"accuracy-aware: {record['in_float']} of {record['choices']} layers in float; loses at most {lost} {on}",)
    return (
        f"accuracy-aware: max_drop {record['max_drop']:g} can't be met with any layer in integers; the best found has "
        f"{record['in_float']} of {record['choices']} layers in float and may lose {lost} {on}",
    )


class _Workshop:
    """Makes assignments and judges them, each once."""

    def __init__(self, model: Artifact, trials: Trials, judge: Judge, folder: Path, raced: Opened | None) -> None:
        self.model = model
        self.trials = trials
        self.clocked = raced is not None
        self._raced = raced
        self.drops: dict[Floats, float] = {}
        self._judge = judge
        self._folder = folder
        self._artifacts: dict[Floats, Artifact] = {}

    def made(self, floats: Floats) -> Artifact:
        """The model with some layers in float."""
        if floats not in self._artifacts:
            out = self._folder / str(len(self._artifacts))
            out.mkdir()
            self._artifacts[floats] = self.trials.make(self.trials.without(floats), out)
        return self._artifacts[floats]

    def drop(self, floats: Floats) -> float:
        """Points that it loses."""
        if floats not in self.drops:
            self.drops[floats] = self._judge.drop(self.made(floats).model)
        return self.drops[floats]

    def milliseconds(self, field: Collection[Floats], sample: Any) -> dict[Floats | str, float]:
        """Latency of assignments, and of the float model; nothing where it can't be told."""
        if self._raced is None:
            return {}
        files: dict[Floats | str, Path] = {FLOAT_MODEL: self.model.model}
        files.update((floats, self.made(floats).model) for floats in field)
        return dict(zip(files, milliseconds(list(files.values()), sample, self._raced), strict=True))

    def noise_alone(self, name: str) -> float:
        """Noise power with one choice in integers and nothing else."""
        with tempfile.TemporaryDirectory(dir=self._folder) as out:
            return self._judge.noise(self.trials.make(self.trials.alone(name), Path(out)).model)


class _Search:
    """Finds the assignment."""

    def __init__(self, workshop: _Workshop, context: Context, max_drop: float, sample: Any) -> None:
        self._shop = workshop
        self._context = context
        self._max_drop = max_drop
        self._sample = sample
        self._choices = tuple(workshop.trials.choices)

    def run(self) -> Found:
        """Search."""
        everything: Floats = frozenset()
        if self._holds(everything):
            return self._quickest(everything)
        noises = self._noises()
        order = noisiest_first(noises)
        count = fewest(len(order) - 1, lambda n: self._holds(frozenset(order[:n])))
        if count is None:
            best = min(self._shop.drops, key=lambda floats: (self._shop.drops[floats], len(floats)))
            return Found(best, False, self._reasons(best, best, noises, met=False), self._raced([best, everything]))
        needed = frozenset(order[:count])
        latencies = self._raced([everything, *(worth_racing(self._choices, order, count) if self._shop.clocked else [])])
        chosen = self._fastest(latencies, needed)
        while self._shop.clocked and (larger := [floats for floats in grown(self._choices, chosen) if floats not in latencies]):
            again = self._raced([everything, chosen, *larger])
            latencies |= again
            if (better := self._fastest(again, chosen)) == chosen:
                break
            chosen = better
        return Found(chosen, True, self._reasons(chosen, needed, noises), latencies)

    def _quickest(self, everything: Floats) -> Found:
        """Where all integers hold the budget but are slower than all float, find what is faster than both, if anything is."""
        latencies = self._raced([everything])
        chosen = everything
        if self._shop.clocked and latencies[everything] > latencies[FLOAT_MODEL] * (1 + EQUAL):
            groups = alike(self._choices)
            latencies |= self._raced([everything, *groups])
            saved = {group: latencies[everything] - latencies[group] for group in groups}
            useful = sorted((g for g in groups if saved[g] > latencies[everything] * EQUAL), key=lambda g: -saved[g])
            if latencies[everything] - sum(saved[group] for group in useful) < latencies[FLOAT_MODEL]:
                latencies |= self._raced([everything, *useful[:1], *together(self._choices, useful)])
                chosen = self._fastest({f: ms for f, ms in latencies.items() if ms < latencies[FLOAT_MODEL]}, everything)
        harmless = f"all layers in integers lose at most {self._lost(everything)}"
        reasons = {name: "faster in float" if name in chosen else harmless for name in self._choices}
        return Found(chosen, True, reasons, latencies)

    def _holds(self, floats: Floats) -> bool:
        known = floats in self._shop.drops
        drop = self._shop.drop(floats)
        if not known:
            self._context.progress.note(f"{len(floats)} of {len(self._choices)} layers in float: loses {drop:.2f} points")
        return drop <= self._max_drop

    def _noises(self) -> dict[str, float]:
        noises: dict[str, float] = {}
        for name in self._choices:
            noises[name] = self._shop.noise_alone(name)
            self._context.progress.advance(len(noises), len(self._choices), "noise of single layers")
        return noises

    def _raced(self, field: Collection[Floats]) -> dict[Floats | str, float]:
        return self._shop.milliseconds(field, self._sample)

    def _fastest(self, latencies: Mapping[Floats | str, float], needed: Floats) -> Floats:
        """The fastest that holds the budget; of equally fast ones, that with the fewest layers in float."""
        left = [floats for floats in latencies if isinstance(floats, frozenset) and floats >= needed]
        while left:
            least = min(latencies[floats] for floats in left)
            chosen = min((f for f in left if latencies[f] <= least * (1 + EQUAL)), key=len)
            if self._holds(chosen):
                return chosen
            left.remove(chosen)
        return needed

    def _reasons(self, chosen: Floats, needed: Floats, noises: Mapping[str, float], *, met: bool = True) -> dict[str, str]:
        def why(name: str) -> str:
            alone = f"{decibels(noises[name]):.1f} dB alone"
            if name in needed:
                return f"{alone}; kept in float to lose {f'at most {self._max_drop:g} points' if met else 'as little as can be had'}"
            return f"{alone}; faster in float than between float layers" if name in chosen else alone

        return {name: why(name) for name in self._choices}

    def _lost(self, floats: Floats) -> str:
        return f"{self._shop.drop(floats):.2f} of {self._max_drop:g} points that may be lost"


def _told(drop: float) -> float | None:
    return round(drop, 4) if math.isfinite(drop) else None


def _task(context: Context) -> Any:
    from edgekit.core.errors import QuantizationError

    if context.task is None:
        raise QuantizationError("accuracy-aware precision needs a task that says what is lost", hint="name one with --task")
    return context.task
