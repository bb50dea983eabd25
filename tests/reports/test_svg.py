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


def test_labels_of_a_crowd_get_leaders_that_cross_no_other_label():
    labels = Labels((0, 0, 400, 200))
    crowd = [(200 + 3 * i, 100) for i in range(9)]
    for point in crowd:
        labels.keep_clear(*point, 6, 6)
    places = [labels.place("some-model", *point) for point in crowd]
    lines = [(point, place.leader) for point, place in zip(crowd, places, strict=True) if place and place.leader]
    assert len(lines) >= 5
    for (x, y), (end_x, end_y) in lines:
        way = [(x + (end_x - x) * t / 100, y + (end_y - y) * t / 100) for t in range(99)]
        crossed = [box for box in labels.written for px, py in way if box[0] < px < box[2] and box[1] < py < box[3]]
        assert crossed == []


def test_label_without_room_is_left_out():
    assert Labels((0, 0, 30, 30)).place("much too long", 15, 15) is None
