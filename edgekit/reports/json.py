"""The report for programs, in the schema that stands beside this file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from edgekit.core.plugin import Writer

if TYPE_CHECKING:
    from edgekit.core.report import Report


class Json(Writer):
    """Write the report as JSON; ``report.schema.json`` describes every field."""

    filename: ClassVar[str] = "report.json"

    def render(self, report: Report) -> str:
        """Return the report as JSON text, in the order of the schema."""
        return report.to_json()
