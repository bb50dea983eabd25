from __future__ import annotations

import json

import jsonschema
import pytest

from edgekit.core.report import Report, load_report
from edgekit.reports._schema import FILE, schema_text
from edgekit.reports.json import Json


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_schema_file_is_up_to_date():
    """Refresh it with ``python -m edgekit.reports`` after a change to edgekit/core/report.py."""
    assert FILE.read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("name", ["full", "failing", "bare", "hostile"])
def test_report_is_valid_and_reads_back_the_same(name, request, validator, tmp_path):
    report: Report = request.getfixturevalue(name)
    text = Json().render(report)
    validator.validate(json.loads(text))
    (tmp_path / "report.json").write_text(text, encoding="utf-8")
    assert load_report(tmp_path) == report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "1 was expected"),
        ({"status": "perhaps"}, "is not one of"),
        ({"invented": 1}, "unexpected"),
        ({"models": "none"}, "is not of type 'array'"),
    ],
)
def test_schema_refuses_what_is_no_report(bare, validator, change, said):
    content = json.loads(Json().render(bare)) | change
    with pytest.raises(jsonschema.ValidationError, match=said):
        validator.validate(content)


def test_schema_asks_for_its_version(bare, validator):
    content = json.loads(Json().render(bare))
    del content["schema"]
    with pytest.raises(jsonschema.ValidationError, match="'schema' is a required property"):
        validator.validate(content)
