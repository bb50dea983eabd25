"""The report for people: one file that opens anywhere, holds every figure with its circumstances and loads nothing.

It has no script and asks the network for nothing; what users wrote into names and notes is escaped by the template engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from edgekit.core.plugin import Writer
from edgekit.reports import _numbers, _plots, _view
from edgekit.reports._view import Group

if TYPE_CHECKING:
    from jinja2 import Environment

    from edgekit.core.report import ClassChange, ModelResult, Report

TEMPLATES = Path(__file__).parent / "templates"
COLOURS = 6
WORST = 20
FOLDED = 180
WORST_OF_OTHERS = 8


@dataclass(frozen=True)
class Bar:
    """One class in the chart of changes, in percent of the chart's width.

    Attributes:
        change: what is drawn.
        left: left end of the bar, which reaches from zero to the change.
        width: of the bar.
        interval: left end and width of the change's interval, as far as it is within the chart; None where none is known.
    """

    change: ClassChange
    left: float
    width: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Classes:
    """The classes, or the slices by one column, of one model: the worst first."""

    title: str
    shown: list[Bar]
    folded: list[Bar]
    zero: float
    left_out: int = 0


class Html(Writer):
    """Write the report as one self-contained HTML file."""

    filename: ClassVar[str] = "report.html"

    def render(self, report: Report) -> str:
        """Return the page."""
        template = _environment().get_template("report.html.j2")
        style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
        return template.render(report=report, style=style, groups=_view.groups(report), page=Page(report)) + "\n"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in (
        "percent",
        "significant",
        "milliseconds",
        "times",
        "megabytes",
        "size",
        "signed",
        "figure",
        "change",
        "check_name",
        "check_value",
        "plain",
    ):
        made.filters[name] = getattr(_numbers, name)
    made.filters |= {
        "short": _view.short,
        "primary": _view.primary,
        "further": _view.further,
        "url": lambda file: quote(file),
        "slug": lambda word: word.replace(" ", "-"),
        "combine": lambda a, b: a | b,
    }
    made.globals |= {"with_unit": _numbers.with_unit, "notes_of": _view.notes_of}
    return made


class Page:
    """What the template asks for beside the report itself."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.metric = _view.metric_name(report)
        runtimes = dict.fromkeys(m.runtime for m in report.models if m.role != "original")
        self.colours = {runtime: 1 + index % (COLOURS - 1) for index, runtime in enumerate(runtimes)}
        self.samples = max((m.accuracy.samples for m in report.models if m.accuracy), default=0)
        original = next((m for m in report.models if m.role == "original"), None)
        self.original = original
        at = _view.primary(original) if original else None
        self.floor = None if at is None else at - report.budget.max_drop

    def scatter(self, group: Group, width: int, height: int) -> str:
        """The plot of accuracy against latency."""
        return _plots.scatter(group, self.metric, self.colours, self.floor, width, height)

    def distributions(self, group: Group, width: int) -> str:
        """The plot of latencies."""
        return _plots.distributions(group, self.colours, width)

    def whisker(self, model: ModelResult, group: Group) -> str:
        """A model's change beside zero and the budget."""
        limit = self.report.budget.max_drop
        return _plots.whisker(model, _plots.whisker_span(group, limit), limit)

    def unplotted(self, group: Group) -> list[str]:
        """Names of a group's models that the scatter plot can't show."""
        shown = {point.model.id for point in _plots.points(group)}
        return [_view.short(m) for m in group.models if m.id not in shown]

    def colour(self, model: ModelResult) -> int:
        """Index of the colour of a model's runtime."""
        return 0 if model.role == "original" else self.colours.get(model.runtime, 0)

    def export_of(self, model: ModelResult, group: Group) -> ModelResult | None:
        """The uncompressed export that a candidate is compared with."""
        same = [m for m in group.models if m.role == "export" and m.format == model.format]
        return next((m for m in same if m.runtime == model.runtime), same[0] if same else None)

    def classes(self, model: ModelResult) -> Classes | None:
        """Changes by class."""
        if model.accuracy is None or not model.accuracy.per_class:
            return None
        return _classes("class", model.accuracy.per_class)

    def slices(self, model: ModelResult) -> list[Classes]:
        """Changes by slice, one chart a column of the metadata."""
        return [_classes(column, changes) for column, changes in model.accuracy.per_slice.items() if changes] if model.accuracy else []

    def others(self, group: Group) -> list[tuple[ModelResult, Classes]]:
        """The worst classes of the candidates that are not in focus."""
        rest = [m for m in group.models if m is not group.focus and m.role != "original" and m.accuracy and m.accuracy.per_class]
        found = [(m, _classes("class", m.accuracy.per_class, WORST_OF_OTHERS, folded=0)) for m in rest if m.accuracy]
        return [(m, chart) for m, chart in found if any(bar.change.change < 0 for bar in chart.shown)]

    def layers(self, group: Group) -> list[ModelResult]:
        """Models whose layers are known by precision."""
        return [m for m in group.models if m.layers]


def _classes(title: str, changes: tuple[ClassChange, ...], shown: int = WORST, folded: int = FOLDED) -> Classes:
    ordered = _view.worst_first(changes)
    low, high = min(-5.0, ordered[0].change), max(2.0, ordered[-1].change)
    kept = shown + folded
    bars = [_bar(change, low, high) for change in ordered]
    return Classes(title, bars[:shown], bars[shown:kept], 100 * -low / (high - low), max(0, len(bars) - kept))


def _bar(change: ClassChange, low: float, high: float) -> Bar:
    span = high - low
    interval = None
    if change.low is not None and change.high is not None:
        start, end = max(low, min(high, change.low)), max(low, min(high, change.high))
        interval = (100 * (start - low) / span, 100 * (end - start) / span)
    return Bar(change, 100 * (min(change.change, 0.0) - low) / span, 100 * abs(change.change) / span, interval)
