from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from edgekit.core.report import ClassChange, Report
from edgekit.reports._view import groups
from edgekit.reports.html import Html, Page

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(HTMLParser):
    """Reads a page, checks that elements nest, and keeps what the tests ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.mark.parametrize("name", ["full", "failing", "bare", "hostile"])
def test_page_is_well_formed_and_loads_nothing(name, request):
    page = Html().render(request.getfixturevalue(name))
    reader = Reader(page)
    assert {tag for tag, _ in reader.tags} & {"script", "iframe", "object", "embed", "img", "base", "form"} == set()
    for tag, attributes in reader.tags:
        assert "src" not in attributes
        assert not any(key.startswith("on") for key in attributes)
        if "href" in attributes:
            assert tag == "a" or attributes["href"] == "data:,"
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\(|https?:", page)


def test_further_metrics_stand_below_the_primary_one(full: Report) -> None:
    assert Html().render(full).count("<small>top5 75.4</small>") >= 1


def test_user_text_stays_text(hostile, evil_text):
    page = Html().render(hostile)
    reader = Reader(page)
    assert "<script>" not in page
    assert reader.text.count(" ".join(evil_text.split())) >= 20
    (link,) = (attributes["href"] for tag, attributes in reader.tags if tag == "a")
    assert link is not None
    assert link.startswith("%3Cscript%3E")
    assert ":" not in link


def test_a_scheme_in_a_file_name_is_no_scheme_in_the_page(full):
    model = full.model("host/openvino-bf16").model_copy(update={"file": "javascript:alert(1)"})
    models = tuple(model if m.id == model.id else m for m in full.models)
    reader = Reader(Html().render(full.model_copy(update={"models": models})))
    assert "javascript%3Aalert%281%29" in [attributes["href"] for tag, attributes in reader.tags if tag == "a"]


def test_verdict_summary_and_delivered_models_stand_first(full):
    text = Reader(Html().render(full)).text
    assert text.index(full.summary) < text.index("host/mobilenetv1.xml") < text.index("Budget")
    for file in ("host/mobilenetv1.xml", "raspberry-pi-4/mobilenetv1.tflite", "jetson-orin-nano/mobilenetv1.onnx"):
        assert file in text
    assert "--saveEngine=mobilenetv1.engine" in text


def test_every_figure_says_on_what_basis(full):
    page = Html().render(full)
    card = page[page.index("<h2>jetson-orin-nano") : page.index("</article>", page.index("<h2>jetson-orin-nano"))]
    assert '<span class="basis estimated">estimated</span>' in card
    assert card.count('<span class="basis not-measured">not measured</span>') == 2
    assert " ms" not in card
    assert '<span class="basis emulated">emulated</span>' in page


def test_a_model_slower_than_its_export_is_marked(full):
    rows = re.findall(r'<tr class="candidate.*?</tr>', Html().render(full), re.DOTALL)
    slow = [re.search(r'title="([^"]+)"', row).group(1) for row in rows if 'class="slower"' in row]  # type: ignore[union-attr]
    assert slow == ["onnx-int8-static", "onnx-fp16", "tflite-int8-static", "tflite-int8-dynamic"]


def test_provenance_is_complete(full):
    text = Reader(Html().render(full)).text
    for word in ("onnxruntime 1.31.1", "avx512_vnni", "imagenet-samples", "coco-photos", "ab" * 32, "onnx_int8_static", "seed 0"):
        assert word in text


def test_twenty_worst_classes_are_shown_and_the_rest_is_folded(full):
    (group, *_) = groups(full)
    assert group.focus is not None
    classes = Page(full).classes(group.focus)
    assert classes is not None
    assert (len(classes.shown), len(classes.folded)) == (20, 4)
    changes = [bar.change.change for bar in classes.shown + classes.folded]
    assert changes == sorted(changes)


def test_bars_start_at_zero_and_end_at_the_change(failing):
    names = {"lost": -30.0, "same": 0.0, "won": 10.0}
    changes = tuple(
        ClassChange(name=n, samples=10, original=50, candidate=50 + c, change=c, low=c - 5, high=c + 50, significant=False)
        for n, c in names.items()
    )
    model = failing.models[-1]
    accuracy = model.accuracy.model_copy(update={"per_class": changes})
    chart = Page(failing).classes(model.model_copy(update={"accuracy": accuracy}))
    assert chart is not None
    assert chart.zero == pytest.approx(75)
    assert [(bar.left, bar.width) for bar in chart.shown] == [(0, 75), (75, 0), (75, 25)]
    assert [bar.interval for bar in chart.shown] == [(0, pytest.approx(100)), (62.5, 37.5), (87.5, 12.5)]


def test_metrics_other_than_accuracy_and_models_without_any_do_not_break_the_page(bare, full):
    generic = full.models[5].accuracy.model_copy(update={"per_class": (), "per_slice": {}, "p_value": None, "primary": "agreement"})
    models = (
        full.models[0].model_copy(update={"accuracy": None}),
        full.models[5].model_copy(update={"accuracy": generic, "latency": None}),
    )
    report = bare.model_copy(update={"models": (*bare.models, *models)})
    assert "agreement" in Reader(Html().render(report)).text


def test_a_target_without_a_model_says_so(failing):
    target = failing.targets[0].model_copy(update={"chosen": None, "reason": "no candidate could be made", "checks": ()})
    text = Reader(Html().render(failing.model_copy(update={"targets": (target,)}))).text
    assert "no model is delivered no candidate could be made" in text
    assert "onnx-int8-static (not delivered)" in text


def test_long_class_lists_keep_the_page_small(full):
    many = tuple(ClassChange(name=f"class {i}", samples=5, original=60, candidate=40, change=-20.0, significant=False) for i in range(1000))
    models = tuple(m.model_copy(update={"accuracy": m.accuracy.model_copy(update={"per_class": many})}) for m in full.models if m.accuracy)
    report: Report = full.model_copy(update={"models": models})
    page = Html().render(report)
    assert len(page) < 700_000
    assert "800 more in report.json" in page
