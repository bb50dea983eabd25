"""What every rendering shows: models by target, the one to look at, the worst classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.core.report import ClassChange, ModelResult, Report, Status, TargetResult


@dataclass(frozen=True)
class Group:
    """The models of one target, the original first.

    Attributes:
        name: the target's name; empty for models that belong to none.
        target: the verdict on it; None where the run judged nothing.
        models: with the original, so that each table stands by itself.
        focus: the model whose details are shown: the chosen one, else the most accurate candidate.
    """

    name: str
    target: TargetResult | None
    models: tuple[ModelResult, ...]
    focus: ModelResult | None

    @property
    def measured(self) -> bool:
        """Whether any model but the original has a latency on this target."""
        return any(has_latency(m) for m in self.models if m.role != "original")

    def is_chosen(self, model: ModelResult) -> bool:
        """Whether a model is the one delivered for this target."""
        return self.target is not None and self.target.chosen == model.id

    def shows_latency(self, model: ModelResult) -> bool:
        """Whether a model's latency belongs beside the others: the original's, measured elsewhere, would mislead."""
        return has_latency(model) and (self.measured or model.role != "original" or not self.name)

    def status(self, model: ModelResult) -> Status | None:
        """How a model stands against the budget."""
        if model.status is None and self.target is not None and self.is_chosen(model):
            return self.target.status
        return model.status


def groups(report: Report) -> list[Group]:
    """Split a report's models by target, in the report's order; models without a target come last."""
    judged = {t.target: t for t in report.targets}
    originals = tuple(m for m in report.models if m.role == "original")
    others = [m for m in report.models if m.role != "original"]
    names = list(dict.fromkeys([*judged, *(m.target for m in others if m.target)]))
    found = [_group(name, judged.get(name), originals, tuple(m for m in others if m.target == name)) for name in names]
    free = tuple(m for m in others if not m.target)
    if free or (originals and not found):
        found.append(_group("", None, originals, free))
    return found


def _group(name: str, target: TargetResult | None, originals: tuple[ModelResult, ...], own: tuple[ModelResult, ...]) -> Group:
    chosen = next((m for m in own if target is not None and m.id == target.chosen), None)
    candidates = [m for m in own if m.role == "candidate" and m.accuracy is not None]
    best = max(candidates, key=lambda m: m.accuracy.change.value if m.accuracy else 0.0, default=None)
    return Group(name, target, (*originals, *own), chosen or best)


def short(model: ModelResult) -> str:
    """A model's id without its target: ``onnx-int8-static``."""
    return model.id.removeprefix(f"{model.target}/") if model.target else model.id


def has_latency(model: ModelResult) -> bool:
    """Whether a latency is known."""
    return model.latency is not None and model.latency.p50 is not None


def primary(model: ModelResult) -> float | None:
    """The primary metric, None where the model was not evaluated."""
    return None if model.accuracy is None else model.accuracy.metrics.get(model.accuracy.primary)


def metric_name(report: Report) -> str:
    """The primary metric's name, as the task calls it."""
    return next((m.accuracy.primary for m in report.models if m.accuracy), "accuracy")


def further(model: ModelResult) -> dict[str, float]:
    """The task's other metrics, in its words and units."""
    return (
        {} if model.accuracy is None else {name: value for name, value in model.accuracy.metrics.items() if name != model.accuracy.primary}
    )


def worst_first(changes: tuple[ClassChange, ...]) -> list[ClassChange]:
    """Classes by what they lost; among equals the larger class first, then by name."""
    return sorted(changes, key=lambda c: (c.change, -c.samples, c.name))


def pareto(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (latency, accuracy) that no other beats in both, by latency."""
    front: list[tuple[float, float]] = []
    for latency, accuracy in sorted(set(points), key=lambda p: (p[0], -p[1])):
        if not front or accuracy > front[-1][1]:
            front.append((latency, accuracy))
    return front


def notes_of(group: Group) -> dict[str, list[str]]:
    """Notes on a group's models, each once, with the names of the models it is about."""
    found: dict[str, list[str]] = {}
    for model in group.models:
        for note in model.notes:
            found.setdefault(note, []).append(short(model))
    return found
