"""The JSON Schema of ``report.json``, generated from the models that write it so that the two can't part."""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).parent / "report.schema.json"


def schema_text() -> str:
    """Return the JSON Schema (draft 2020-12) of a report, as the text of ``report.schema.json``."""
    from edgekit.core.report import SCHEMA_VERSION, Report

    content = Report.model_json_schema(by_alias=True)
    content["required"] = ["schema", *content["required"]]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"edgekit report, schema {SCHEMA_VERSION}"}
    return json.dumps(head | {k: v for k, v in content.items() if k != "title"}, indent=1, ensure_ascii=False) + "\n"
