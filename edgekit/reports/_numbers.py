"""Numbers as people read them: a true minus sign, as many digits as the evidence carries, always with the unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.core.report import Check, Interval, Latency

NOTHING = "\u2013"
MINUS = "\u2212"
TIMES = "\u00d7"

CHECKS = {
    "max_drop": "Accuracy lost",
    "max_class_drop": "Accuracy lost by any class",
    "class_collapse": "Collapse of any class",
    "min_speedup": "Speed-up over the uncompressed export",
    "max_size": "Size on disk",
    "max_latency": "Latency (p50)",
}
"""Fields of the budget in words."""


def significant(value: float, digits: int = 3) -> str:
    """Write a number with at least so many significant digits, never in scientific notation: 0.0432, 1.08, 16.4, 164, 1640."""
    if value == 0:
        return "0"
    exponent = int(f"{abs(value):.{digits - 1}e}".partition("e")[2])
    return f"{value:.{max(0, digits - 1 - exponent)}f}".replace("-", MINUS)


def percent(value: float | None) -> str:
    """``51.6 %``."""
    return NOTHING if value is None else f"{value:.1f} %".replace("-", MINUS)


def figure(value: float | None) -> str:
    """``32.3``: a metric in its own unit."""
    return NOTHING if value is None else significant(value)


def milliseconds(value: float | None) -> str:
    """``1.08 ms``."""
    return NOTHING if value is None else f"{significant(value)} ms"


def times(value: float | None) -> str:
    """``1.28x``."""
    if value is None:
        return NOTHING
    return (f"{value:.2f}" if value < 10 else significant(value)) + TIMES


def megabytes(value: float | None) -> str:
    """``72.4 MB``, of 10^6 bytes."""
    return NOTHING if value is None else f"{significant(value)} MB"


def size(count: int | None) -> str:
    """``671 kB``, ``3.99 MB``: bytes in steps of 1000."""
    if count is None:
        return NOTHING
    if count < 1000:
        return f"{count} B"
    if count < 999_500:
        return f"{significant(count / 1000)} kB"
    return f"{significant(count / 1_000_000)} MB"


def signed(value: float, decimals: int = 1) -> str:
    """``+0.4``, ``-1.2``, ``0.0``."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def change(interval: Interval | None) -> str:
    """``-0.4 [-1.6, +0.8]``; two decimals where the interval is narrower than a point."""
    if interval is None:
        return NOTHING
    decimals = 2 if 0 < interval.high - interval.low < 1 else 1
    value, low, high = (signed(number, decimals) for number in (interval.value, interval.low, interval.high))
    return value if interval.low == interval.high else f"{value} [{low}, {high}]"


def ratio(interval: Interval | None) -> str:
    """``1.28x [1.25, 1.31]``."""
    if interval is None:
        return NOTHING
    return times(interval.value) if interval.low == interval.high else f"{times(interval.value)} [{interval.low:.2f}, {interval.high:.2f}]"


def p50(latency: Latency | None) -> str:
    """The median, or in one word why there is none."""
    if latency is None or latency.p50 is None:
        return "not measured"
    return milliseconds(latency.p50.value) + ("" if latency.basis == "measured" else f" ({latency.basis})")


def check_name(name: str) -> str:
    """A field of the budget in words."""
    return CHECKS.get(name, name)


def with_unit(value: float, unit: str, digits: int = 6) -> str:
    """A checked value or limit with its unit: ``1.2x``, ``0.4 points``."""
    number = f"{value:.{digits}g}".replace("-", MINUS)
    if unit in ("x", TIMES, "times"):
        return number + TIMES
    return f"{number} {unit.removesuffix('s') if unit == 'points' and value == 1 else unit}"


def check_value(check: Check) -> str:
    """What a check found, with its interval where it has one: ``0.4 [-0.1, 0.9] points``."""
    if check.value is None:
        return "not measured"
    value = with_unit(check.value, check.unit, 3)
    if check.low is None or check.high is None:
        return value
    low, high = (
        significant(end) if check.unit == "ms" else f"{end:.{1 if check.high - check.low >= 1 else 2}f}" for end in (check.low, check.high)
    )
    return f"{value} [{low}, {high}]".replace("-", MINUS)


def plain(value: Any) -> str:
    """Plain data of the provenance as one line: ``a=1, b=[2, 3]``."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(plain(inner) for inner in value) + "]"
    return NOTHING if value is None else str(value)
