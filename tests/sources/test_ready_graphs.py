"""Ready graphs from outside: TFLite files, OpenVINO IR and SavedModels."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from edgekit import compress
from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.errors import RecipeError, SourceError
from edgekit.core.plugin import Context, Exporter, Source
from edgekit.core.registry import create
from edgekit.opening import open_source
from edgekit.runner import load

spec = importlib.util.spec_from_file_location("saved_models", Path(__file__).with_name("saved_models.py"))
assert spec is not None and spec.loader is not None  # noqa: PT018
saved_models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(saved_models)

WEIGHT = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
WANTED = np.maximum(X @ WEIGHT, 0)


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    return saved_models.write(tmp_path / "tf", WEIGHT)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    out = tmp_path_factory.mktemp("lite")

    module = torch.nn.Sequential(torch.nn.Linear(6, 4, bias=False), torch.nn.ReLU())
    module[0].weight.data = torch.from_numpy(WEIGHT.T.copy())
    create(Exporter, "tflite", "x").write(module.eval(), out, Context(example={"x": X[:1]}))
    return out / "model.tflite"


@pytest.fixture
def flatbuffer(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(converted, tmp_path / "model.tflite"))


def fetched(path: Path, out: Path) -> Checkpoint:
    out.mkdir()
    source = open_source(str(path), Path())
    source.check_packages()
    return source.fetch(out, Context(example={}))


def exported(checkpoint: Checkpoint, name: str, out: Path) -> Artifact:
    out.mkdir()
    return create(Exporter, name, "exporters").export(checkpoint, out, Context(example={"x": X[:1]}))


def test_a_saved_model_is_read_without_tensorflow(saved_model: Path, tmp_path: Path) -> None:
    made = exported(fetched(saved_model, tmp_path / "c"), "openvino", tmp_path / "o")
    (name,) = [i.name for i in made.inputs]
    (result,) = load(made.model, "openvino").run({name: X}).values()
    assert name == "x"
    np.testing.assert_allclose(result, WANTED, atol=1e-5)


def test_an_operator_that_openvino_does_not_read_is_named(tmp_path: Path) -> None:
    path = saved_models.write(tmp_path / "tf", WEIGHT, activation="QuantumFourierTransform")
    with pytest.raises(SourceError, match="QuantumFourierTransform"):
        fetched(path, tmp_path / "c")


def test_ir_goes_on_as_ir(saved_model: Path, tmp_path: Path) -> None:
    made = exported(fetched(saved_model, tmp_path / "c"), "openvino", tmp_path / "o")
    again = exported(fetched(made.model, tmp_path / "c2"), "openvino", tmp_path / "o2")
    np.testing.assert_allclose(load(again.model, "openvino").run({"x": X})[again.outputs[0].name], WANTED, atol=1e-5)


def test_ir_without_weights_is_refused(saved_model: Path, tmp_path: Path) -> None:
    made = exported(fetched(saved_model, tmp_path / "c"), "openvino", tmp_path / "o")
    made.model.with_suffix(".bin").unlink()
    with pytest.raises(SourceError, match=r"model\.bin: no such file"):
        create(Source, {"use": "openvino", "path": str(made.model)}, "model").fingerprint()


@pytest.mark.parametrize(("name", "runtime"), [("tflite", "litert"), ("openvino", "openvino")])
def test_a_flatbuffer_keeps_its_names_in_every_format(name: str, runtime: str, flatbuffer: Path, tmp_path: Path) -> None:
    made = exported(fetched(flatbuffer, tmp_path / "c"), name, tmp_path / "o")
    given = X if isinstance(made.inputs[0].shape[0], str) else X[:1]
    outputs = load(made.model, runtime).run({"x": given})
    np.testing.assert_allclose(outputs["output"], WANTED[: len(given)], atol=1e-5)


def test_a_truncated_flatbuffer_is_refused(flatbuffer: Path, tmp_path: Path) -> None:
    flatbuffer.write_bytes(flatbuffer.read_bytes()[:200])
    with pytest.raises(SourceError, match=r"model\.tflite: does not load"):
        fetched(flatbuffer, tmp_path / "c")


def test_what_a_graph_can_not_become_is_refused_before_work_starts(flatbuffer: Path, tmp_path: Path) -> None:
    data = _data(tmp_path)
    with pytest.raises(RecipeError, match="can't become onnx"):
        compress(str(flatbuffer), data=str(data), formats=["onnx"], out=tmp_path / "run")


def test_passes_on_a_ready_graph_are_refused_before_work_starts(flatbuffer: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump({"schema": 1, "model": str(flatbuffer), "data": str(_data(tmp_path)), "passes": ["equalize"]}))
    with pytest.raises(RecipeError, match="passes need a PyTorch module"):
        compress(str(recipe), out=tmp_path / "run")


def test_a_flatbuffer_is_compressed_for_the_runtimes_that_take_it(flatbuffer: Path, tmp_path: Path) -> None:
    report = compress(str(flatbuffer), data=str(_data(tmp_path)), measure=False, precisions=["fp32"], out=tmp_path / "run")
    assert {m.format for m in report.models} == {"tflite", "openvino"}


def _data(folder: Path) -> Path:
    np.savez(folder / "x.npz", x=np.random.default_rng(2).normal(size=(20, 6)).astype(np.float32))
    path = folder / "set.yaml"
    path.write_text(
        "schema: 1\nread: {use: npz, path: x.npz, inputs: {x: x}}\nsplits: {calibration: {rows: [0, 10]}, evaluation: {rows: [10, 20]}}\n",
        encoding="utf-8",
    )
    return path
