"""ONNX models that others wrote: each is inspected and validated, or refused in one line that names what is in the way."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from edgekit import inspect, races, validate
from edgekit.cli.main import main
from edgekit.core.artifacts import Artifact
from edgekit.core.errors import ExportError, QuantizationError
from edgekit.core.plugin import Context, Exporter, Quantizer, RuntimeSettings
from edgekit.core.registry import create
from edgekit.evaluation.fidelity import verify
from edgekit.exporters import _onnx_graphs
from edgekit.opening import open_source
from edgekit.sessions import open_session

spec = importlib.util.spec_from_file_location("onnx_models", Path(__file__).with_name("onnx_models.py"))
assert spec is not None and spec.loader is not None  # noqa: PT018
zoo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)

RUNNING = [name for name in zoo.MODELS if name not in zoo.REFUSED]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Save a model and its data; return both paths."""

    def save(name: str, **options: Any) -> tuple[Path, Path]:
        onnx.save(zoo.MODELS[name](), tmp_path / f"{name}.onnx", **options)
        np.savez(tmp_path / "x.npz", x=zoo.feed(name) if name in RUNNING else np.zeros((10, 4), np.float32))
        content = {
            "schema": 1,
            "read": {"use": "npz", "path": "x.npz", "inputs": {"x": "x"}},
            "splits": {"calibration": {"rows": [0, 4]}, "evaluation": {"rows": [4, 10]}},
        }
        (tmp_path / "set.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return tmp_path / f"{name}.onnx", tmp_path / "set.yaml"

    return save


def exported(path: Path, folder: Path, **options: Any) -> Artifact:
    for name in ("checkpoint", "out"):
        (folder / name).mkdir()
    checkpoint = open_source(str(path), Path()).fetch(folder / "checkpoint", Context(example={}))
    return create(Exporter, {"use": "onnx", **options}, "exporters").export(checkpoint, folder / "out", Context(example={}))


def difference(original: Path, made: Artifact, inputs: dict[str, np.ndarray]) -> float:
    with open_session(original, "onnxruntime", RuntimeSettings(), fresh=False) as session:
        wanted = session.run(inputs)
    with open_session(made.model, "onnxruntime", RuntimeSettings(), fresh=False) as session:
        return verify(session, [(inputs, wanted)]).max_absolute


@pytest.mark.parametrize("name", RUNNING)
def test_it_is_inspected_and_validated(name: str, saved: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = saved(name)
    found = inspect(path)
    assert [end.name for end in found.inputs] == ["x"]
    assert [end.name for end in found.outputs] == ["y"]
    for what in ("raced", "written"):
        monkeypatch.setattr(races, what, lambda *_: {})
    report = validate(path, reference=str(path), data=str(data))
    assert [m.accuracy.metrics["cosine"] for m in report.models if m.accuracy] == pytest.approx([100, 100], abs=1e-6)


@pytest.mark.parametrize("name", RUNNING)
def test_its_export_is_up_to_date_and_computes_the_same(name: str, saved: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    path, _ = saved(name)
    made = exported(path, tmp_path)
    assert [i.name for i in made.inputs] == ["x"]
    assert made.metadata["opset"] >= _onnx_graphs.OLDEST_OPSET
    assert difference(path, made, {"x": zoo.feed(name)}) < 1e-5


@pytest.mark.parametrize("name", zoo.REFUSED)
def test_it_is_refused_in_one_line(
    name: str, saved: Callable[..., tuple[Path, Path]], refusal: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    path, data = saved(name)
    answer = main(["validate", str(path), "--reference", str(path), "--data", str(data)])
    said = capfd.readouterr()
    refusal(answer, said.out, said.err, zoo.REFUSED[name])


def test_constants_are_folded_and_the_change_is_told(saved: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    made = exported(saved("opset_7_weights_are_inputs")[0], tmp_path)
    assert made.metadata["changes"] == ["opset 7 -> 13", "weights are no inputs any more", "11 -> 6 nodes by folding constants"]
    operators = [node.op_type for node in onnx.load(made.model).graph.node]
    assert "BatchNormalization" not in operators


def test_an_older_opset_than_the_graphs_is_converted_to_where_a_target_needs_it(
    saved: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    path, _ = saved("control_flow_if")
    made = exported(path, tmp_path, opset=13)
    assert made.metadata["opset"] == 13


def test_what_an_older_opset_does_not_have_is_named(saved: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    path, _ = saved("opset_21")
    with pytest.raises(ExportError, match="opset 21 can't be converted to 13"):
        exported(path, tmp_path, opset=13)


def test_a_quantized_graph_is_not_quantized_again(saved: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    made = exported(saved("quantized_already")[0], tmp_path)
    with pytest.raises(QuantizationError, match="quantized already"):
        create(Quantizer, "onnx_int8_dynamic", "q").plan(made, Context(example={}))


def test_external_data_comes_along(saved: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    path, _ = saved("opset_12_softmax_over_all_that_follows", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (tmp_path / "w.bin").is_file()
    assert inspect(path).files == (path.name, "w.bin")
    assert difference(path, exported(path, tmp_path), {"x": zoo.feed("opset_12_softmax_over_all_that_follows")}) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("file", ["detection/fastestdet_coco_upstream.onnx", "segmentation/espnetv2_s1.0_pascal384.onnx"])
def test_upstream_files_are_taken(file: str, data: Path, tmp_path: Path) -> None:
    made = exported(data / file, tmp_path)
    shape = [n if isinstance(n, int) else 1 for n in made.inputs[0].shape]
    sample = np.random.default_rng(0).random(shape).astype(np.float32)
    assert made.metadata["opset"] == 13
    assert difference(data / file, made, {made.inputs[0].name: sample}) < 1e-3
    assert len(onnx.load(made.model).graph.node) < 400
