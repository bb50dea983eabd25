from __future__ import annotations

import json

import pytest

from edgekit import doctor
from edgekit.cli.main import main
from edgekit.doctor import Check


def test_a_whole_environment_exits_with_0(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "ok             onnxruntime" in out
    assert "formats that can be made" in out
    assert out.rstrip().endswith("everything for the formats above is there")


@pytest.fixture
def gap(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Check(group="package", name="onnx", state="missing", found="wanted >=1", fix="pip install 'onnx>=1'")
    monkeypatch.setattr(doctor, "check_packages", lambda *_, **__: [missing])


def test_a_gap_exits_with_3_and_the_command(gap, capsys):
    assert main(["doctor"]) == 3
    out = capsys.readouterr().out
    assert "missing        onnx                 wanted >=1  ->  pip install 'onnx>=1'" in out
    assert out.rstrip().endswith("to mend it: pip install 'onnx>=1'")


def test_json_is_the_only_thing_on_stdout(gap, capsys):
    assert main(["doctor", "--json"]) == 3
    content = json.loads(capsys.readouterr().out)
    assert (content["schema"], content["ok"], content["fix"]) == (1, False, "pip install 'onnx>=1'")
    assert {check["group"] for check in content["checks"]} >= {"python", "package", "format", "runtime", "cpu", "tool", "place"}
