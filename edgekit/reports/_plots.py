"""The report's plots: accuracy against latency, and how latencies are distributed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from edgekit.reports import _numbers as n
from edgekit.reports._svg import Axis, Labels, picture, tag
from edgekit.reports._view import Group, has_latency, pareto, primary, short

if TYPE_CHECKING:
    from edgekit.core.report import ModelResult

BINS = 200
NARROW = 500
"""Widest drawing for a phone, in pixels."""


@dataclass(frozen=True)
class Point:
    """A model in the scatter plot: latency in ms, accuracy in percent, both with their intervals."""

    model: ModelResult
    chosen: bool
    x: tuple[float, float, float]
    y: tuple[float, float, float]

    @property
    def told(self) -> str:
        """What hovering says."""
        change = self.model.accuracy.change if self.model.accuracy else None
        changed = "" if self.model.role == "original" else f" ({n.change(change)} points)"
        name = f"{short(self.model)}{', delivered' if self.chosen else ''}"
        p50 = f"p50 {n.milliseconds(self.x[0])} [{n.significant(self.x[1])}, {n.significant(self.x[2])}]"
        return f"{name}\n{n.percent(self.y[0])}{changed}\n{p50}"


def points(group: Group) -> list[Point]:
    """Models of a group that have both an accuracy and a latency."""
    found = []
    for model in group.models:
        accuracy, latency, value = model.accuracy, model.latency, primary(model)
        if accuracy is None or value is None or latency is None or latency.p50 is None or not group.shows_latency(model):
            continue
        low, high = value + accuracy.change.low - accuracy.change.value, value + accuracy.change.high - accuracy.change.value
        found.append(Point(model, group.is_chosen(model), (latency.p50.value, latency.p50.low, latency.p50.high), (value, low, high)))
    return found


def scatter(group: Group, metric: str, colours: Mapping[str, int], floor: float | None, width: int, height: int) -> Markup:
    """Draw accuracy against latency.

    Args:
        group: the models of one target.
        metric: name of the vertical axis.
        colours: index of each runtime's colour.
        floor: accuracy that the budget asks for, in percent.
        width: of the drawing, in pixels.
        height: of the drawing, in pixels.

    Returns:
        The SVG element; empty where no model has both numbers.
    """
    shown = points(group)
    if not shown:
        return Markup()
    x, y = _frame(shown, floor, width, height)
    labels = Labels((x.start + 3, y.end, width - 4, y.start - 2), reach=95 if width > NARROW else 28)
    parts = [*_grid(x, y), _axis_names(x, y, metric, width, height)]
    if floor is not None:
        parts.append(_floor(floor, x, y))
        labels.keep_clear(x.end - 45, y(floor) - 8, 45, 8)
    parts.append(_front(shown, x, y))
    for point in shown:
        labels.keep_clear(x(point.x[0]), y(point.y[0]), 6, 6)
        labels.keep_clear((x(point.x[1]) + x(point.x[2])) / 2, y(point.y[0]), (x(point.x[2]) - x(point.x[1])) / 2, 2)
        labels.keep_clear(x(point.x[0]), (y(point.y[1]) + y(point.y[2])) / 2, 2, abs(y(point.y[1]) - y(point.y[2])) / 2)
    parts += [label for point in sorted(shown, key=lambda p: not p.chosen) if (label := _label(point, x, y, colours, labels))]
    parts += [_point(point, x, y, colours) for point in shown]
    return picture(width, height, f"{metric} against latency", parts)


def _frame(shown: Sequence[Point], floor: float | None, width: int, height: int) -> tuple[Axis, Axis]:
    fastest, slowest = min(p.x[1] for p in shown), max(p.x[2] for p in shown)
    worst, best = _heights(shown, floor), max(p.y[2] for p in shown)
    room = max((best - worst) * 0.08, 0.2)
    span = max(slowest / fastest, 1.3)
    x = Axis(fastest / span**0.17, slowest * span**0.1, 52, width - 12, log=True)
    top = min(best, 100.0) if max(p.y[0] for p in shown) <= 100 else best
    return x, Axis(worst - room, top + room, height - 44, 12)


def _heights(shown: Sequence[Point], floor: float | None) -> float:
    """Lowest accuracy to draw: one model that lost everything must not press the others into one line."""
    original = max(p.y[0] for p in shown)
    least = original - 5 * max(1.0, 0.0 if floor is None else original - floor)
    lows = [p.y[1] if p.chosen or p.y[0] >= least else least for p in shown]
    return min(lows + ([floor] if floor is not None else []))


def _grid(x: Axis, y: Axis) -> list[Markup]:
    parts = []
    for value in y.ticks(6):
        parts.append(tag("line", class_="grid", x1=x.start, x2=x.end, y1=y(value), y2=y(value)))
        parts.append(tag("text", f"{value:g}", class_="tick", x=x.start - 8, y=y(value) + 4, text_anchor="end"))
    for value in x.ticks(7 if x.end > NARROW else 4):
        parts.append(tag("line", class_="grid", x1=x(value), x2=x(value), y1=y.start, y2=y.end))
        parts.append(tag("text", f"{value:g}", class_="tick", x=x(value), y=y.start + 17, text_anchor="middle"))
    return parts


def _axis_names(x: Axis, y: Axis, metric: str, width: int, height: int) -> Markup:
    middle = (y.start + y.end) / 2
    across = tag("text", "median latency, ms (log scale)", class_="axis", x=(x.start + x.end) / 2, y=height - 6, text_anchor="middle")
    turned = f"rotate(-90 12 {middle:.0f})"
    return across + tag("text", f"{metric}, %", class_="axis", x=12, y=middle, text_anchor="middle", transform=turned)


def _floor(floor: float, x: Axis, y: Axis) -> Markup:
    line = tag("line", class_="floor", x1=x.start, x2=x.end, y1=y(floor), y2=y(floor))
    return line + tag("text", "least in budget", class_="floor-name", x=x.end - 2, y=y(floor) - 5, text_anchor="end")


def _front(shown: Sequence[Point], x: Axis, y: Axis) -> Markup:
    front = pareto([(p.x[0], p.y[0]) for p in shown])
    path = f"M{x(front[0][0]):.1f} {y.start:.1f}" + "".join(f"V{y(v):.1f}H{x(t):.1f}" for t, v in _corners(front)) + f"H{x.end:.1f}"
    return tag("path", tag("title", "no model is both faster and more accurate than those on this line"), class_="front", d=path)


def _corners(front: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """For each step of the staircase its height and the latency where the next step begins."""
    following = [t for t, _ in front[1:]] + [front[-1][0]]
    return [(until, accuracy) for (_, accuracy), until in zip(front, following, strict=True)]


def _point(point: Point, x: Axis, y: Axis, colours: Mapping[str, int]) -> Markup:
    at_x, at_y = x(point.x[0]), y(point.y[0])
    bars = f"M{at_x:.1f} {y(point.y[1]):.1f}V{y(point.y[2]):.1f}M{x(point.x[1]):.1f} {at_y:.1f}H{x(point.x[2]):.1f}"
    parts = [tag("title", point.told), tag("path", class_="bars", d=bars)]
    if point.chosen:
        parts.append(tag("circle", class_="ring", cx=at_x, cy=at_y, r=10))
    if point.y[0] < y.low:
        parts.append(tag("path", class_="mark", d=f"M{at_x - 6:.1f} {at_y - 11:.1f}h12l-6 10z"))
    elif point.model.role == "original":
        parts.append(tag("path", class_="mark", d=f"M{at_x:.1f} {at_y - 6.5:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z"))
    else:
        parts.append(tag("circle", class_="mark", cx=at_x, cy=at_y, r=5))
    return tag("g", *parts, class_=f"point {point.model.role} c{colours.get(point.model.runtime, 0)}")


def _label(point: Point, x: Axis, y: Axis, colours: Mapping[str, int], labels: Labels) -> Markup | None:
    below = point.y[0] < y.low
    text = short(point.model)
    text = (text if len(text) <= 30 else text[:29] + "\u2026") + (f" {n.percent(point.y[0])}" if below else "")
    at_x, at_y = x(point.x[0]), y(point.y[0]) - (6 if below else 0)
    place = labels.place(text, at_x, at_y, point.chosen)
    if place is None:
        return None
    own = f"name own c{colours.get(point.model.runtime, 0)}{' chosen' if point.chosen else ''}"
    name = tag("text", text, class_=own, x=place.x, y=place.y)
    if place.leader is None:
        return name
    return tag("line", class_="leader", x1=at_x, y1=at_y, x2=place.leader[0], y2=place.leader[1]) + name


def distributions(group: Group, colours: Mapping[str, int], width: int) -> Markup:
    """Draw a histogram of each model's latencies, one below the other on a common logarithmic scale.

    The axis ends at the slowest p99; rarer latencies gather at its right edge.

    Args:
        group: the models of one target.
        colours: index of each runtime's colour.
        width: of the drawing, in pixels.

    Returns:
        The SVG element; empty where no latencies were kept.
    """
    shown = [m for m in group.models if group.shows_latency(m) and has_latency(m) and m.latency and m.latency.samples_ms]
    if not shown:
        return Markup()
    row = 52
    bottom = len(shown) * row + 6
    latencies = [m.latency for m in shown if m.latency]
    low = min(s for one in latencies for s in one.samples_ms) / 1.04
    high = max(_end(sorted(one.samples_ms), one.p99.value if one.p99 else 0.0) for one in latencies) * 1.04
    axis = Axis(low, high, 6, width - 12, log=True)
    ticks = axis.ticks(8 if width > NARROW else 4)
    parts = [tag("line", class_="grid", x1=axis(t), x2=axis(t), y1=4, y2=bottom) for t in ticks]
    parts += [tag("text", f"{t:g}", class_="tick", x=axis(t), y=bottom + 15, text_anchor="middle") for t in ticks]
    parts.append(tag("text", "latency, ms (log scale)", class_="axis", x=width / 2, y=bottom + 34, text_anchor="middle"))
    parts += [_ridge(m, axis, index * row + 8, row - 8, colours, group.is_chosen(m)) for index, m in enumerate(shown)]
    return picture(width, bottom + 40, "Distribution of latencies", parts)


def _end(samples: list[float], p99: float) -> float:
    return max(p99, samples[min(len(samples) - 1, math.floor(0.99 * len(samples)))])


def _ridge(model: ModelResult, axis: Axis, top: float, height: float, colours: Mapping[str, int], chosen: bool) -> Markup:
    latency = model.latency
    if latency is None or latency.p50 is None:
        return Markup()
    base, name_height = top + height, 15
    counts = [0] * BINS
    for sample in latency.samples_ms:
        counts[_bin(sample, axis)] += 1
    tallest = max(counts)
    step = (axis.end - axis.start) / BINS
    outline = "".join(f"V{base - c / tallest * (height - name_height):.1f}h{step:.2f}" for c in counts)
    quantiles = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99}
    told = ", ".join(f"{name} {n.milliseconds(q.value)}" for name, q in quantiles.items() if q)
    parts = [
        tag("title", f"{short(model)}: {told}; {latency.runs} runs in {latency.rounds} rounds"),
        tag("path", class_="ridge", d=f"M{axis.start:.1f} {base:.1f}{outline}V{base:.1f}z"),
        tag("line", class_="base", x1=axis.start, x2=axis.end, y1=base, y2=base),
    ]
    parts += [
        tag("line", class_=f"quantile {name}", x1=axis(q.value), x2=axis(q.value), y1=base - (height - name_height), y2=base)
        for name, q in quantiles.items()
        if q
    ]
    parts.append(
        tag(
            "text",
            short(model),
            tag("tspan", f"  {told}", class_="told"),
            class_="name chosen" if chosen else "name",
            x=axis.start,
            y=top + 9,
        )
    )
    return tag("g", *parts, class_=f"row c{colours.get(model.runtime, 0)}")


def _bin(sample: float, axis: Axis) -> int:
    return min(BINS - 1, int((axis(sample) - axis.start) / (axis.end - axis.start) * BINS))


def whisker(model: ModelResult, span: tuple[float, float], limit: float | None) -> Markup:
    """Draw a change with its interval beside zero and the budget, small enough for a table's cell.

    Args:
        model: whose change to draw.
        span: lowest and highest change in points that all whiskers of the table share.
        limit: points that may be lost.

    Returns:
        The SVG element; empty where the model was not evaluated.
    """
    if model.accuracy is None or model.role == "original":
        return Markup()
    change, axis = model.accuracy.change, Axis(*span, 5, 115)
    parts = [tag("line", class_="zero", x1=axis(0), x2=axis(0), y1=1, y2=17)]
    if limit is not None:
        parts.append(tag("line", class_="floor", x1=axis(-limit), x2=axis(-limit), y1=1, y2=17))
    parts.append(tag("line", class_="bars", x1=axis(change.low), x2=axis(change.high), y1=9, y2=9))
    if change.value < span[0]:
        parts.append(tag("path", class_="mark", d="M1 9l7 -4v8z"))
    else:
        parts.append(tag("circle", class_="mark", cx=axis(change.value), cy=9, r=3.5))
    return tag(
        "svg", tag("title", f"{n.change(change)} points"), *parts, viewBox="0 0 120 18", width=120, height=18, class_="whisker", role="img"
    )


def whisker_span(group: Group, limit: float | None) -> tuple[float, float]:
    """Changes that a table's whiskers reach over; a model that lost far more than the budget leaves at the left edge."""
    changes = [m.accuracy.change for m in group.models if m.accuracy and m.role != "original"]
    room = 4 * max(limit or 0.0, 1.0)
    low = min([-(limit or 0.0), -1.0, *(c.low for c in changes)])
    return max(low, -room) * 1.1, min(max([1.0, *(c.high for c in changes)]), room) * 1.1
