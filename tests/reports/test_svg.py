from __future__ import annotations

import pytest

from edgekit.reports._svg import Axis, Labels, picture, tag


def test_elements_escape_texts_and_attributes():
    assert tag("text", "<b>&", x=1.25, text_anchor="end", title='"x"', y=None) == (
        '<text x="1.2" text-anchor="end" title="&#34;x&#34;">&lt;b&gt;&amp;</text>'
    )
    assert tag("g", tag("line", x1=2.0), class_="a") == '<g class="a"><line x1="2"/></g>'


def test_picture_has_a_name_for_screen_readers():
    assert picture(10, 5.4, "a < b", []) == '<svg viewBox="0 0 10 5" role="img" class="plot"><title>a &lt; b</title></svg>'


def test_axis_maps_and_stays_within_its_ends():
    upward = Axis(0, 10, 100, 0)
    assert [upward(v) for v in (0, 5, 10, 11, -1)] == [100, 50, 0, 0, 100]
    log = Axis(1, 100, 0, 200, log=True)
    assert [round(log(v), 6) for v in (1, 10, 100)] == [0, 100, 200]
    assert log(0) == 0


@pytest.mark.parametrize(
    ("axis", "wanted", "ticks"),
    [
        (Axis(45.2, 53.1, 0, 1), 6, [46, 48, 50, 52]),
        (Axis(0, 1, 0, 1), 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis(0.7, 5, 0, 1, log=True), 7, [0.7, 1, 1.5, 2, 3, 5]),
        (Axis(0.02, 300, 0, 1, log=True), 7, [0.1, 1, 10, 100]),
        (Axis(1.01, 1.04, 0, 1, log=True), 4, [1.01, 1.02, 1.03, 1.04]),
    ],
)
def test_ticks_are_round_and_within_the_axis(axis, wanted, ticks):
    assert axis.ticks(wanted) == pytest.approx(ticks)


def test_label_goes_right_of_its_point_and_the_next_one_elsewhere():
    labels = Labels((0, 0, 200, 100))
    first = labels.place("abcd", 50, 50)
    second = labels.place("abcd", 50, 50)
    assert first is not None
    assert (first.x, first.leader) == (59, None)
    assert second is not None
    assert second.x + 4 * 6.3 == pytest.approx(41)


def test_label_far_from_its_point_gets_a_leader_that_crosses_no_label():
    labels = Labels((0, 0, 200, 100))
    labels.keep_clear(50, 50, 40, 12)
    place = labels.place("abcd", 50, 50)
    assert place is not None
    assert place.leader is not None


def test_label_without_room_is_left_out():
    assert Labels((0, 0, 30, 30)).place("much too long", 15, 15) is None
