from __future__ import annotations

import re

import pytest

from edgekit.core.report import Report
from edgekit.reports.markdown import Markdown, escape


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_verdict_comes_first(failing):
    lines = Markdown().render(failing).splitlines()
    assert lines[0].endswith("mobilenetv1: fail")
    assert lines[2] == failing.summary


def test_row_holds_every_figure(full):
    row = next(line for line in Markdown().render(full).splitlines() if line.startswith("| **openvino-bf16**"))
    assert cells(row)[1:8] == ["51.2 %", "\u22120.4 [\u22121.8, +1.0]", "0.769 ms", "1.28\u00d7", "5.38\u00d7", "1.95 MB", "84.9 MB"]
    assert cells(row)[8].endswith("pass")


def test_model_of_a_device_that_is_not_here_says_not_measured_and_how_to_measure(full):
    text = Markdown().render(full)
    section = text[text.index("jetson-orin-nano: pass") :]
    row = next(line for line in section.splitlines() if line.startswith("| **onnx-int8-static**"))
    assert cells(row)[1:6] == ["51.0 % (estimated)", "\u22120.6 [\u22122.0, +0.8]", "not measured", "\u2013", "\u2013"]
    assert "```sh\ntrtexec --onnx=mobilenetv1.onnx" in section


def test_worst_classes_are_named(failing):
    assert "Worst classes of onnx-int8-static, points: monarch butterfly \u221238.9 (18 samples)" in Markdown().render(failing)


def test_further_metrics_stand_beside_the_originals(full):
    assert "Further metrics of openvino-bf16: top5 75.4 (original 75.8)." in Markdown().render(full)


def test_one_target_fits_a_job_summary(full):
    one = full.model_copy(update={"targets": full.targets[:1], "models": full.models[:11]})
    assert len(Markdown().render(one).splitlines()) < 60


@pytest.mark.parametrize("name", ["full", "failing", "bare", "hostile"])
def test_every_table_has_as_many_cells_in_each_row_as_its_header(name, request):
    report: Report = request.getfixturevalue(name)
    blocks = [block.splitlines() for block in Markdown().render(report).split("\n\n") if block.startswith("|")]
    assert blocks
    for block in blocks:
        assert {len(cells(line)) for line in block} == {len(cells(block[0]))}


def test_user_text_stays_text(hostile, evil_text):
    text = Markdown().render(hostile)
    assert "<script" not in text
    assert "\x1b" not in text
    assert escape(evil_text) in text
    assert escape(evil_text).count("\n") == 0
    assert "\\[a\\](javascript:b)" in text


def test_a_command_can_not_close_its_fence(full):
    target = full.targets[2].model_copy(update={"command": "a ``` b\n```"})
    text = Markdown().render(full.model_copy(update={"targets": (target,)}))
    assert "````sh\na ``` b\n```\n````" in text


@pytest.mark.parametrize(
    ("given", "literal"), [("# a", "\\# a"), ("a\n# b", "a # b"), ("x & <b>", "x &amp; &lt;b>"), ("> a", "\\> a"), ("a|b", "a\\|b")]
)
def test_escape(given, literal):
    assert escape(given) == literal
