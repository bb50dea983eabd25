from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from edgekit.core.report import Interval, Latency, Report
from edgekit.reports import _plots
from edgekit.reports._view import Group, groups

COLOURS = {"onnxruntime": 1, "openvino": 2, "litert": 3}


@pytest.fixture
def host(full: Report) -> Group:
    return groups(full)[0]


def marks(svg: str) -> dict[str, ET.Element]:
    """Points of a scatter plot by the first line of their title."""
    found = (g for g in ET.fromstring(svg).iter("g") if "point" in (g.get("class") or ""))
    return {(g.findtext("title") or "").splitlines()[0]: g for g in found}


def test_every_measured_model_is_a_point_and_the_delivered_one_is_ringed(host):
    found = marks(_plots.scatter(host, "top1", COLOURS, 50.6, 980, 430))
    assert len(found) == 11
    assert found["openvino-bf16, delivered"].find("circle[@class='ring']") is not None
    assert found["onnx-fp16"].find("circle[@class='ring']") is None
    assert found["original"].get("class") == "point original c0"
    assert found["onnx-fp16"].get("class") == "point candidate c1"


def test_hovering_tells_the_figures_with_their_intervals(host):
    point = marks(_plots.scatter(host, "top1", COLOURS, 50.6, 980, 430))["openvino-int8-static"]
    assert point.findtext("title") == ("openvino-int8-static\n50.8 % (\u22120.8 [\u22122.2, +0.6] points)\np50 0.876 ms [0.865, 0.887]")


def test_faster_is_left_and_more_accurate_is_up(host):
    found = marks(_plots.scatter(host, "top1", COLOURS, 50.6, 980, 430))
    fast, slow = (found[name].find("circle[@class='mark']") for name in ("openvino-bf16, delivered", "onnx-int8-static"))
    assert fast is not None
    assert slow is not None
    assert float(fast.get("cx", "")) < float(slow.get("cx", ""))
    assert float(fast.get("cy", "")) < float(slow.get("cy", ""))


def test_a_model_that_lost_everything_is_drawn_at_the_edge_with_its_figure(host):
    svg = _plots.scatter(host, "top1", COLOURS, 50.6, 980, 430)
    assert "tflite-int8-static 38.8 %" in [text.text for text in ET.fromstring(svg).iter("text")]
    assert "40" not in [text.text for text in ET.fromstring(svg).iter("text")]


def test_the_delivered_model_is_never_drawn_at_the_edge(failing):
    (group,) = groups(failing)
    svg = _plots.scatter(group, "top1", COLOURS, 50.6, 980, 430)
    assert marks(svg)["onnx-int8-static, delivered"].find("circle[@class='mark']") is not None


def test_front_joins_what_nothing_beats(host):
    svg = ET.fromstring(_plots.scatter(host, "top1", COLOURS, None, 980, 430))
    path = next(p.get("d", "") for p in svg.iter("path") if p.get("class") == "front")
    assert len(re.findall("V", path)) == 2


def test_nothing_measured_gives_no_plot(full):
    orin = groups(full)[2]
    assert _plots.scatter(orin, "top1", COLOURS, 50.6, 980, 430) == ""
    assert _plots.distributions(orin, COLOURS, 980) == ""


def test_distribution_has_a_row_for_each_model_and_a_line_for_each_quantile(host):
    rows = list(ET.fromstring(_plots.distributions(host, COLOURS, 980)).iter("g"))
    assert len(rows) == 11
    for row in rows:
        assert [line.get("class") for line in row.iter("line")] == ["base", "quantile p50", "quantile p90", "quantile p99"]
    assert (rows[0].findtext("title") or "").startswith("original: p50 4.14 ms, p90 ")


def test_histogram_peaks_at_the_most_frequent_latency(host):
    model = host.models[0]
    assert model.latency is not None
    lone = Latency(basis="measured", p50=Interval(value=2, low=2, high=2), samples_ms=(1.0, 2.0, 2.0, 2.0, 4.0))
    group = Group("", None, (model.model_copy(update={"latency": lone}),), None)
    row = next(ET.fromstring(_plots.distributions(group, COLOURS, 980)).iter("g"))
    heights = [float(v) for v in re.findall(r"V([\d.]+)h", next(row.iter("path")).get("d", ""))]
    base = max(heights)
    raised = {index: round((base - h) / (base - min(heights)), 3) for index, h in enumerate(heights) if h < base}
    middle = raised.pop(max(raised, key=lambda i: raised[i]))
    assert middle == 1.0
    assert sorted(raised.values()) == pytest.approx([1 / 3, 1 / 3], abs=0.01)


def test_whiskers_of_a_table_share_a_scale_and_leave_out_the_original(host):
    span = _plots.whisker_span(host, 1.0)
    assert span == pytest.approx((-4.4, 1.1))
    assert _plots.whisker(host.models[0], span, 1.0) == ""
    lost = next(m for m in host.models if m.id == "host/tflite-int8-static")
    assert "M1 9l7 -4v8z" in _plots.whisker(lost, span, 1.0)


def test_axis_of_a_percentage_ends_at_100(failing):
    (group,) = groups(failing)
    perfect = [
        m.model_copy(update={"accuracy": m.accuracy.model_copy(update={"metrics": {"top1": 99.8}})}) for m in group.models if m.accuracy
    ]
    svg = ET.fromstring(_plots.scatter(Group("host", None, tuple(perfect), None), "top1", COLOURS, 98.8, 980, 430))
    ticks = [float(text.text or "") for text in svg.iter("text") if text.get("text-anchor") == "end" and text.get("class") == "tick"]
    assert max(ticks) == 100
