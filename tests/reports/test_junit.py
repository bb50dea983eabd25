from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from edgekit.core.report import Report
from edgekit.reports.junit import JUnit


def read(report: Report) -> ET.Element:
    return ET.fromstring(JUnit().render(report))


def outcomes(report: Report) -> dict[tuple[str, str], str]:
    return {
        (suite.get("name", ""), case.get("name", "")): next((child.tag for child in case), "passed")
        for suite in read(report)
        for case in suite
    }


def strict(report: Report) -> Report:
    return report.model_copy(update={"budget": report.budget.model_copy(update={"strict": True})})


def test_each_check_is_a_case_and_what_was_not_told_is_skipped(full):
    speed = "Speed-up over the uncompressed export"
    assert outcomes(full) == {
        ("host", "Accuracy lost"): "passed",
        ("host", speed): "passed",
        ("raspberry-pi-4", "Accuracy lost"): "skipped",
        ("raspberry-pi-4", speed): "skipped",
        ("jetson-orin-nano", "Accuracy lost"): "passed",
        ("jetson-orin-nano", speed): "skipped",
    }


def test_strict_budget_turns_skipped_into_failures(full):
    assert list(outcomes(strict(full)).values()).count("failure") == 3


def test_failure_tells_the_message_limit_and_value(failing):
    failure = read(failing).find("./testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "fail: loses 18.2 points [14.6, 21.8] where 1.0 may be lost"
    assert failure.text == "loses 18.2 points [14.6, 21.8] where 1.0 may be lost\nlimit 1 point, found 18.2 points [14.6, 21.8]"


@pytest.mark.parametrize("name", ["full", "failing", "bare", "hostile"])
@pytest.mark.parametrize("strictly", [False, True])
def test_there_is_a_failure_exactly_when_the_exit_code_is_1(name, strictly, request):
    report: Report = request.getfixturevalue(name)
    report = strict(report) if strictly else report
    assert ("failure" in outcomes(report).values()) == (report.exit_code == 1)


def test_a_verdict_that_no_check_explains_is_a_case_of_its_own(failing):
    target = failing.targets[0].model_copy(update={"checks": (), "chosen": None, "reason": "no candidate could be made"})
    report = failing.model_copy(update={"targets": (target,)})
    assert outcomes(report) == {("host", "verdict"): "failure"}
    assert outcomes(report.model_copy(update={"targets": ()})) == {("run", "verdict"): "failure"}


@pytest.mark.parametrize("name", ["full", "failing", "bare", "hostile"])
def test_counts_agree_with_the_cases(name, request):
    root = read(request.getfixturevalue(name))
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped", "")) == len(suite.findall("testcase/skipped"))
    assert int(root.get("tests", "")) == len(root.findall("testsuite/testcase"))
    assert int(root.get("failures", "")) == len(root.findall("testsuite/testcase/failure"))


def test_text_that_xml_can_not_hold_is_left_out_and_the_rest_survives(hostile, evil_text):
    root = read(hostile)
    (failure,) = root.findall("testsuite/testcase/failure")
    assert failure.text is not None
    assert failure.text.startswith(evil_text.replace("\x1b", ""))
    assert root.get("name") == "edgekit " + " ".join(evil_text.replace("\x1b", "").split())
