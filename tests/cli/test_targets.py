from __future__ import annotations

import json

from edgekit.cli.main import main
from edgekit.core.target import target_names


def test_all_targets_are_listed_with_what_decides(capsys):
    assert main(["targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = {line.split()[0]: line for line in lines if line.strip()}
    assert set(target_names()) <= set(row)
    assert "litert, onnxruntime, openvino" in row["raspberry-pi-4"]
    assert "uint8, 7-bit weights" in row["x86-avx2"]
    assert "int8, symmetric" in row["jetson-orin-nano"]
    assert row["host"].rstrip().endswith("measured")
    assert not row["jetson-orin-nano"].rstrip().endswith("measured")


def test_one_target_shows_facts_beside_their_sources(capsys):
    assert main(["targets", "jetson-nano"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("backends.tensorrt.opset: 13")
    assert lines[at + 1].strip().startswith("TensorRT 8.2 supports operators up to opset 13")
    assert "no source given" not in lines


def test_json_of_all_and_of_one(capsys):
    assert main(["targets", "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert {target["name"] for target in every} == set(target_names())
    assert main(["targets", "x86-avx2", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert (one["schema"], one["name"], one["backends"][0]["int8"]["reduce_range"]) == (1, "x86-avx2", True)


def test_a_file_of_the_users_own(tmp_path, capsys):
    path = tmp_path / "board.yaml"
    path.write_text(
        "schema: 1\nname: board\ntitle: A board\narchitecture: aarch64\n"
        "backends: [{runtime: litert, format: tflite, precisions: [fp32]}]\nsources: {}\n",
        encoding="utf-8",
    )
    assert main(["targets", str(path)]) == 0
    assert "no source given" in capsys.readouterr().out


def test_a_mistyped_name_is_one_line_and_a_hint(capsys):
    assert main(["targets", "rasberry-pi-4"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == "error: unknown target 'rasberry-pi-4'"
    assert "'raspberry-pi-4'" in said.err.splitlines()[1]
