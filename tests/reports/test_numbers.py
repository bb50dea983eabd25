from __future__ import annotations

import pytest

from edgekit.core.report import Check, Interval, Latency
from edgekit.reports import _numbers as n


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0432, "0.0432"),
        (0.98249, "0.982"),
        (1.084, "1.08"),
        (9.996, "10.0"),
        (16.44, "16.4"),
        (164.4, "164"),
        (1640.2, "1640"),
        (0, "0"),
    ],
)
def test_significant_digits(value, text):
    assert n.significant(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "\u2013"), (999, "999 B"), (1000, "1.00 kB"), (999_500, "1.00 MB"), (671_000, "671 kB"), (3_991_000, "3.99 MB")],
)
def test_sizes_are_in_steps_of_1000(count, text):
    assert n.size(count) == text


@pytest.mark.parametrize(("value", "text"), [(-0.04, "0.0"), (0.04, "0.0"), (-1.25, "\u22121.2"), (0.4, "+0.4")])
def test_signed_has_no_negative_zero(value, text):
    assert n.signed(value) == text


def test_change_shows_decimals_that_its_interval_carries():
    assert n.change(Interval(value=-0.4, low=-1.6, high=0.8)) == "\u22120.4 [\u22121.6, +0.8]"
    assert n.change(Interval(value=-0.04, low=-0.16, high=0.08)) == "\u22120.04 [\u22120.16, +0.08]"
    assert n.change(Interval(value=0, low=0, high=0)) == "0.0"
    assert n.change(None) == "\u2013"


def test_latency_that_was_not_measured_never_looks_measured():
    half = Interval(value=1.0, low=0.9, high=1.1)
    assert n.p50(None) == "not measured"
    assert n.p50(Latency(basis="not measured", reason="needs the device")) == "not measured"
    assert n.p50(Latency(basis="estimated", p50=half)) == "1.00 ms (estimated)"
    assert n.p50(Latency(basis="measured", p50=half)) == "1.00 ms"


def check(value: float | None, low: float | None = None, high: float | None = None, unit: str = "points") -> Check:
    return Check(name="max_drop", status="pass", limit=1.0, value=value, low=low, high=high, unit=unit, message="")


def test_checked_values_have_unit_and_interval():
    assert n.check_value(check(None)) == "not measured"
    assert n.check_value(check(-0.4, -1.6, 0.8)) == "\u22120.4 points [\u22121.6, 0.8]"
    assert n.check_value(check(1.28, 1.25, 1.31, "x")) == "1.28\u00d7 [1.25, 1.31]"
    assert n.check_value(check(0.1675, -0.3, 0.7)) == "0.168 points [\u22120.3, 0.7]"
    assert n.check_value(check(0.0566, 0.0561, 0.0571, "ms")) == "0.0566 ms [0.0561, 0.0571]"
    assert n.check_value(check(3.991, unit="MB")) == "3.99 MB"
    assert n.with_unit(128.5, "MB") == "128.5 MB"
    assert n.with_unit(1.0, "points") == "1 point"
    assert n.with_unit(1.0, "ms") == "1 ms"


def test_plain_data_becomes_one_line():
    assert n.plain({"a": 1, "b": [2, None], "c": {"d": "e"}}) == "a=1, b=[2, \u2013], c=d=e"
