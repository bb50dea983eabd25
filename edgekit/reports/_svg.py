"""Just enough SVG for a report's plots: escaped elements, axes with round ticks, labels that keep clear of each other.

Colours are CSS classes, so that a plot follows the reader's light or dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from markupsafe import Markup, escape

CHARACTER = 6.3
"""Mean width of a character of a label, in pixels, at the 11.5 px that the style sheet sets."""


def tag(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """Make an element; texts and attribute values are escaped, ``None`` leaves an attribute out, ``_`` in names becomes ``-``."""
    told = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    inside = Markup().join(escape(child) for child in children)
    return Markup(f"<{name}{told}>{inside}</{name}>" if inside else f"<{name}{told}/>")  # noqa: S704 - both parts are escaped above


def _value(value: str | float) -> Markup:
    return escape(f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value)


def picture(width: int, height: float, label: str, parts: Iterable[Markup]) -> Markup:
    """Make a drawing that scales with the page and that a screen reader can name."""
    box = f"0 0 {width} {height:.0f}"
    return tag("svg", tag("title", label), *parts, viewBox=box, role="img", class_="plot")


@dataclass(frozen=True)
class Axis:
    """Maps values onto pixels.

    Attributes:
        low: value at ``start``.
        high: value at ``end``.
        start: pixel of the low end; above ``end`` for an upward axis.
        end: pixel of the high end.
        log: logarithmic; both ends are positive then.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value; values beyond an end stay at it."""
        low, high, at = (math.log(max(v, 1e-12)) if self.log else v for v in (self.low, self.high, value))
        share = (at - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, wanted: int = 6) -> list[float]:
        """Round values within the axis, about as many as wanted."""
        return _log_ticks(self.low, self.high, wanted) if self.log else _linear_ticks(self.low, self.high, wanted)


def _linear_ticks(low: float, high: float, wanted: int) -> list[float]:
    rough = (high - low) / max(1, wanted - 1)
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, wanted: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(1 + 0.25 * i for i in range(36))):
        finer = [t for d in decades for m in steps if low <= (t := float(f"{m * 10.0**d:.6g}")) <= high]
        if found and len(finer) > wanted + 1:
            break
        found = finer
    return found if len(found) > 1 else _linear_ticks(low, high, wanted)


@dataclass(frozen=True)
class Place:
    """Where a label goes.

    Attributes:
        x: left end of the text.
        y: baseline of the text.
        leader: where a line from the point meets the label; None where the label touches the point.
    """

    x: float
    y: float
    leader: tuple[float, float] | None


Box = tuple[float, float, float, float]


@dataclass
class Labels:
    """Places labels beside points, greedily, where they cover neither a point nor another label.

    Attributes:
        room: box (left, top, right, bottom) that labels stay within.
        reach: farthest a label that is not bold may stand from its point, in pixels; a leader shows where it belongs.
        taken: boxes that labels keep clear of.
        written: boxes of the labels placed so far, which leaders don't cross.
    """

    room: Box
    reach: float = 95
    taken: list[Box] = field(default_factory=list)
    written: list[Box] = field(default_factory=list)

    def keep_clear(self, x: float, y: float, reach_x: float, reach_y: float) -> None:
        """Reserve the room of a marker or an error bar."""
        self.taken.append((x - reach_x, y - reach_y, x + reach_x, y + reach_y))

    def place(self, text: str, x: float, y: float, bold: bool = False) -> Place | None:
        """Find room for a label near a point and take it; None where there is no room."""
        wide, high = len(text) * CHARACTER * (1.08 if bold else 1.0), 13.0
        for distance in (d for d in (9, 18, 28, 40, 55, 75, 95) if bold or d <= self.reach):
            for left, top in _beside(x, y, wide, high, distance):
                box = (left, top, left + wide, top + high)
                end = (min(max(x, left), left + wide), min(max(y, top + 1), top + high - 1))
                leader = _dots((x, y), end) if distance > 9 else []
                if self._inside(box) and not _meet(box, self.taken) and not any(_meet(dot, self.written) for dot in leader):
                    self.taken += [box, *leader]
                    self.written.append(box)
                    return Place(left, top + high - 3, end if leader else None)
        return None

    def _inside(self, box: Box) -> bool:
        return box[0] >= self.room[0] and box[1] >= self.room[1] and box[2] <= self.room[2] and box[3] <= self.room[3]


def _meet(box: Box, others: Iterable[Box]) -> bool:
    return any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in others)


def _dots(start: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """Small boxes along a line, from beyond the marker at its start."""
    count = max(2, int(math.dist(start, end) / 3))
    way = [i / count for i in range(1, count)]
    middles = [(start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t) for t in way]
    return [(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in middles]


def _beside(x: float, y: float, wide: float, high: float, distance: float) -> list[tuple[float, float]]:
    """Upper left corners of labels around a point: first to its right, then to its left, then all around."""
    steps = [0, 8, 2, 14, 6, 10, 12, 4] if distance <= 9 else [0, 8, 1, 15, 7, 9, 2, 14, 6, 10, 3, 13, 5, 11, 12, 4]
    found = []
    for step in steps:
        across, down = math.cos(step * math.pi / 8), math.sin(step * math.pi / 8)
        left = x + distance * across - wide * (0.0 if across > 0.1 else 1.0 if across < -0.1 else 0.5)
        top = y + distance * down - high * (0.0 if down > 0.1 else 1.0 if down < -0.1 else 0.5)
        found.append((left, top))
    return found
