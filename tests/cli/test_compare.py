from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.cli.main import main

SAMPLES = runpy.run_path(str(Path(__file__).parent.parent / "reports" / "samples.py"))


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    for name in ("full", "failing", "hostile"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(SAMPLES[f"{name}_report"]().to_json(), encoding="utf-8")
    return {name: str(tmp_path / name) for name in ("full", "failing", "hostile")}


def test_a_failed_gate_exits_with_1_and_says_why(runs, capsys):
    assert main(["compare", runs["full"], runs["failing"], "--max-drop", "1"]) == 1
    out = capsys.readouterr().out
    assert "host: loses 17.80 points [loss 15.82 to 19.78] where 1 may be lost" in out
    assert "0.769 ms \u2192 1.41" in out
    assert "host: delivers onnx-int8-static instead of openvino-bf16." in out
    assert "1.83\u00d7 worse" in out
    assert "Only in the baseline: host/openvino-fp32" in out


def test_without_gates_a_worse_run_exits_with_0(runs, capsys):
    assert main(["compare", runs["full"], runs["failing"]]) == 0
    assert "verdict" not in capsys.readouterr().out


def test_strict_takes_nothing_for_granted(runs):
    gates = ["compare", runs["full"], runs["full"], "--max-slowdown", "1.1"]
    assert main(gates) == 0  # one of its targets is not measured
    assert main([*gates, "--strict"]) == 1
    assert main([*gates[:3], "--strict"]) == 0


def test_a_reader_that_leaves_changes_no_verdict(runs):
    for more in ([], ["--json"]):
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "edgekit", "compare", runs["full"], runs["failing"], "--max-drop", "1", *more]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
        os.close(write)
        assert (done.returncode, done.stderr) == (1, "")


def test_json_is_the_only_thing_on_stdout(runs, capsys):
    assert main(["compare", runs["full"], runs["failing"], "--max-slowdown", "1.1", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["schema"], content["status"]) == (1, "fail")
    assert content["runs"][0]["delivered"][0]["latency"]["finding"] == "worse"


def test_markdown_is_written_even_when_a_gate_fails(runs, tmp_path, capsys):
    file = tmp_path / "compare.md"
    assert main(["compare", runs["full"], runs["failing"], "--max-drop", "1", "--markdown", str(file)]) == 1
    text = file.read_text(encoding="utf-8")
    assert text.splitlines()[0].endswith("fail")
    assert "| host | 51.2 % \u2192 33.4 % |" in text


def test_user_text_steers_neither_terminal_nor_markdown(runs, tmp_path, capsys):
    file = tmp_path / "compare.md"
    assert main(["compare", runs["full"], runs["hostile"], "--markdown", str(file)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert "<script" not in file.read_text(encoding="utf-8")


def test_one_run_is_wrong_usage(runs, capsys):
    assert main(["compare", runs["full"]]) == 2
    assert "two runs at least" in capsys.readouterr().err


def test_markdown_that_can_not_be_written_is_told(runs, tmp_path, capsys):
    assert main(["compare", runs["full"], runs["failing"], "--markdown", str(tmp_path / "no" / "file.md")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
