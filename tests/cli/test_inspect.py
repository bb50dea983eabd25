from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli.main import main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """MatMul, Relu, MatMul; the first weight has a name that tries to steer the terminal."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first[bold]\x1b[31m"),
        helper.make_node("Relu", ["h"], ["r"], name="between"),
        helper.make_node("MatMul", ["r", "v"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w"), numpy_helper.from_array(np.ones((3, 2), np.float32), "v")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_the_summary_and_the_layers_that_compute(model, capsys):
    assert main(["inspect", str(model)]) == 0
    out = capsys.readouterr().out
    assert f"{model}: onnx, opset 20" in out
    assert "parameters  18, 18 MACs" in out
    assert "inputs      x float32 [batch, 4]" in out
    assert "operators   2 MatMul, 1 Relu" in out
    assert "precision   2 x fp32" in out
    assert "second" in out
    assert "between" not in out
    assert "1 nodes without weights of their own are not shown" in out


def test_names_are_text_and_nothing_else(model, capsys):
    main(["inspect", str(model)])
    out = capsys.readouterr().out
    assert "first[bold]?[31m" in out
    assert "\x1b" not in out


def test_all_lists_every_node(model, capsys):
    assert main(["inspect", str(model), "--all"]) == 0
    assert "between" in capsys.readouterr().out


def test_a_target_says_what_stands_in_the_way(model, capsys):
    assert main(["inspect", str(model), "--target", "jetson-nano"]) == 0
    out = capsys.readouterr().out
    assert "jetson-nano, tensorrt: unfit" in out
    assert "wrong or impossible: TensorRT 8.2.1 (JetPack 4.6) reads operators up to opset 13" in out
    assert main(["inspect", str(model), "--target", "x86-amx"]) == 0
    assert "x86-amx, onnxruntime: fit\n" in capsys.readouterr().out


def test_json_holds_everything(model, capsys):
    assert main(["inspect", str(model), "--target", "x86-amx", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["schema"], content["macs"], len(content["layers"])) == (1, 18, 3)
    assert content["fit"]["target"] == "x86-amx"


@pytest.mark.parametrize("arguments", [["absent.onnx"], ["m.onnx", "--target", "nope"]])
def test_wrong_input_is_one_line_and_a_hint(model, monkeypatch, capsys, arguments):
    monkeypatch.chdir(model.parent)
    assert main(["inspect", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
    assert said.err.startswith("error: ")


def test_a_damaged_file_is_one_line(model, capsys):
    model.write_bytes(model.read_bytes()[:50])
    assert main(["inspect", str(model)]) == 2
    assert "truncated" in capsys.readouterr().err
