"""``python -m edgekit.reports`` writes ``report.schema.json`` anew after the report's models have changed."""

from __future__ import annotations

from edgekit.reports._schema import FILE, schema_text

FILE.write_text(schema_text(), encoding="utf-8")
