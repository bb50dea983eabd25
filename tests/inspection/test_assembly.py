"""A model of several graphs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.core.errors import SourceError
from edgekit.core.target import load_target
from edgekit.inspection import inspect

from .conftest import conv_gemm


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Twice the same graph, under two names."""
    for name in ("image", "text"):
        (tmp_path / name).mkdir()
        conv_gemm(tmp_path / name / "model.onnx")
    content = {"program": "two_towers", "settings": {}, "components": {"image": "image/model.onnx", "text": "text/model.onnx"}}
    (tmp_path / "model.json").write_text(json.dumps({"assembly": 1, **content}), encoding="utf-8")
    return tmp_path / "model.json"


def test_numbers_are_sums_and_layers_tell_their_graph(several: Path) -> None:
    one, both = inspect(several.parent / "text" / "model.onnx"), inspect(several, target=load_target("x86-avx2"))
    assert (both.format, both.parameters, both.macs) == ("onnx", 2 * one.parameters, 2 * (one.macs or 0))
    assert both.size == 2 * one.size + several.stat().st_size
    assert both.files == ("model.json", "image/model.onnx", "text/model.onnx")
    assert [layer.name for layer in both.layers if layer.computes] == ["image/conv", "image/fc", "text/conv", "text/fc"]
    assert both.operators == {name: 2 * count for name, count in one.operators.items()}
    assert [end.name for end in (*both.inputs, *both.outputs)] == ["image/x", "text/x", "image/y", "text/y"]
    assert both.fit is not None
    assert both.fit.runs
    assert both.notes[0].startswith("2 graphs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "is no model of several graphs"),
        ('{"assembly": 2, "program": "p", "settings": {}, "components": {}}', "version 2"),
        ('{"assembly": 1, "program": "p", "settings": {}, "components": {"a": "../a.onnx"}}', "does not lie beside it"),
    ],
)
def test_other_json_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "model.json").write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        inspect(tmp_path / "model.json")
