"""What every report writer promises, whatever it renders."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from edgekit.core import registry
from edgekit.core.plugin import Writer
from edgekit.core.report import Report

SAMPLES = runpy.run_path(str(Path(__file__).parent.parent / "reports" / "samples.py"))
REPORTS = ("full", "failing", "bare", "hostile")


@pytest.fixture(params=registry.names(Writer))
def writer(request: pytest.FixtureRequest) -> Writer:
    return registry.create(Writer, request.param, "reports")


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> Report:
    return SAMPLES[f"{request.param}_report"]()


def test_the_four_renderings_of_a_run_are_there():
    assert {"html", "json", "junit", "markdown"} <= set(registry.names(Writer))


def test_file_names_are_plain_and_differ():
    names = [registry.load(Writer, name).filename for name in registry.names(Writer)]
    assert len(set(names)) == len(names)
    assert all(name == Path(name).name and Path(name).suffix for name in names)


def test_same_report_gives_the_same_bytes(writer, report):
    assert writer.render(report).encode() == writer.render(report.model_copy(deep=True)).encode()


def test_text_ends_with_one_newline(writer, report):
    text = writer.render(report)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_report_that_was_read_from_json_renders_the_same(writer, report):
    again = Report.model_validate_json(report.to_json())
    assert writer.render(again) == writer.render(report)


def test_name_and_verdict_are_told(writer):
    text = writer.render(SAMPLES["failing_report"]())
    assert "mobilenetv1" in text
    assert "fail" in text


def test_a_wrong_option_is_refused(writer):
    from edgekit.core.errors import RecipeError

    with pytest.raises(RecipeError, match="unknown key 'invented'"):
        registry.create(Writer, {"use": registry.name_of(writer), "invented": 1}, "reports")
