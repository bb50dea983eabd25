"""The verdict as test results, so that a CI system shows each line of the budget beside the unit tests.

The elements and attributes are those that Jenkins, GitLab, GitHub's reporters and Azure read: a suite for each target, a case for
each check. The file holds a failure exactly when the command would exit with 1.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgekit.core.plugin import Writer
from edgekit.reports._numbers import check_name, check_value, with_unit

if TYPE_CHECKING:
    from edgekit.core.report import Report, Status, TargetResult

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One test case."""

    name: str
    status: Status
    message: str
    detail: str = ""


class JUnit(Writer):
    """Write the checks of every target as JUnit XML.

    A failed check is a failure; one that is inconclusive or not measured is skipped, or a failure where the budget is strict.
    """

    filename: ClassVar[str] = "junit.xml"

    def render(self, report: Report) -> str:
        """Return the XML document."""
        suites = [(target.target, _cases(target)) for target in report.targets]
        shown = {case.status for _, cases in suites for case in cases}
        if report.status not in shown and not (report.status == "pass" and shown):
            suites.append(("run", [Case("verdict", report.status, report.summary)]))
        root = ET.Element("testsuites", {"name": _line(f"edgekit {report.name}")})
        for index, (name, cases) in enumerate(suites):
            _suite(root, index, name, cases, report)
        for total in ("tests", "failures", "errors"):
            root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
        ET.indent(root, " ")
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _cases(target: TargetResult) -> list[Case]:
    cases = [
        Case(check_name(c.name), c.status, c.message, f"limit {with_unit(c.limit, c.unit)}, found {check_value(c)}") for c in target.checks
    ]
    if not any(case.status == target.status for case in cases):
        cases.append(Case("verdict", target.status, target.reason))
    return cases


def _suite(root: ET.Element, index: int, name: str, cases: list[Case], report: Report) -> None:
    suite = ET.SubElement(root, "testsuite", {"id": str(index), "name": _line(name)})
    strict = report.budget.strict and report.exit_code == 1
    failures = skipped = 0
    for case in cases:
        classname = _line(f"edgekit.{report.name}.{name}")
        element = ET.SubElement(suite, "testcase", {"name": _line(case.name), "classname": classname, "time": "0"})
        if case.status == "pass":
            continue
        if case.status == "fail" or strict:
            failures += 1
            outcome = ET.SubElement(element, "failure", {"message": _line(f"{case.status}: {case.message}"), "type": case.status})
            outcome.text = _clean(f"{case.message}\n{case.detail}".strip())
        else:
            skipped += 1
            ET.SubElement(element, "skipped", {"message": _line(f"{case.status}: {case.message}")})
    suite.attrib |= {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "skipped": str(skipped), "time": "0"}


def _clean(text: str) -> str:
    """Leave out the characters that XML 1.0 can't hold."""
    return _NOT_XML.sub("", text)


def _line(text: str) -> str:
    """Make text fit an attribute."""
    return " ".join(_clean(text).split())
