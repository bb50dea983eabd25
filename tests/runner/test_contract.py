from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import edgekit.runner
from edgekit.runner import RunnerError, load, memory, runtime_class, runtime_names
from edgekit.runner.contract import first_line

HOME = Path(edgekit.runner.__file__).parent


def test_tflite_runtime_beside_numpy_2_is_missing_not_broken(models: dict[str, Path]) -> None:
    with pytest.raises(RunnerError, match="needs numpy below 2, here is 2") as caught:
        load(models["tflite_runtime"], "tflite_runtime")
    assert caught.value.kind == "missing"
    assert "venv" in caught.value.hint


def test_a_library_that_does_not_import_is_missing(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_class("onnxruntime"), "MODULE", "onnxruntime_that_is_not_there")
    with pytest.raises(RunnerError, match=r"onnxruntime does not import \(No module named") as caught:
        load(models["onnxruntime"], "onnxruntime")
    assert (caught.value.kind, caught.value.hint) == ("missing", "pip install onnxruntime")


def test_external_data_is_read_from_beside_the_file(tiny: SimpleNamespace, tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "large.onnx", external=True)
    assert (tmp_path / "large.onnx.data").stat().st_size > 0
    inputs = tiny.batch(2)
    np.testing.assert_allclose(load(path, "onnxruntime").run(inputs)["logits"], tiny.reference(inputs)["logits"], rtol=0, atol=1e-5)
    (tmp_path / "large.onnx.data").unlink()
    with pytest.raises(RunnerError, match="does not load"):
        load(path, "onnxruntime")


def test_unknown_operators_are_refused_at_loading(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "odd.onnx")
    with pytest.raises(RunnerError, match="Frobnicate") as caught:
        load(tmp_path / "odd.onnx", "onnxruntime")
    assert caught.value.kind == "model"


def test_failures_within_the_model_are_the_models(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [axis]) for name, axis in (("a", "n"), ("b", "m"), ("y", "k"))]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", values[:2], values[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "add.onnx")
    model = load(tmp_path / "add.onnx", "onnxruntime")
    inputs = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    for call in (lambda: model.run(inputs), lambda: model.time(inputs, 0.0, 1)):
        with pytest.raises(RunnerError, match="failed on these inputs") as caught:
            call()
        assert caught.value.kind == "model"
    assert model.run({"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)})["y"].tolist() == [2.0, 2.0]


def test_tflite_without_a_signature_has_clean_names(tiny: SimpleNamespace, tmp_path: Path) -> None:
    model = load(tiny.write_tflite(tmp_path / "plain.tflite", signature=False), "litert")
    assert [i.name for i in model.inputs] == ["image", "index"]
    assert [o.name for o in model.outputs] == ["logits", "probabilities"]
    inputs = tiny.batch(2)
    np.testing.assert_allclose(model.run(inputs)["logits"], tiny.reference(inputs)["logits"], rtol=0, atol=1e-5)


def test_openvino_compiles_once_for_the_first_shapes_and_once_for_all_others(models: dict[str, Path], tiny: SimpleNamespace) -> None:
    model = load(models["openvino"], "openvino")
    for size in (4, 1, 4, 2, 3):
        model.run(tiny.batch(size))
    assert list(model._requests) == [((4, 1, 4, 4), (4,)), None]


def test_pytorch_gets_its_threads_back(models: dict[str, Path]) -> None:
    import torch

    before = torch.get_num_threads()
    model = load(models["pytorch"], "pytorch", threads=before + 1)
    assert torch.get_num_threads() == before + 1
    model.close()
    assert torch.get_num_threads() == before


def test_peak_memory_grows_with_what_was_touched() -> None:
    before = memory.peak()
    block = np.ones(before // 8 + 5_000_000)
    assert memory.peak() >= block.nbytes


def test_every_runtime_has_the_same_shape() -> None:
    for name in runtime_names():
        kind = runtime_class(name)
        assert kind.FORMAT in ("torch", "onnx", "openvino", "tflite")
        assert kind.PRECISIONS[0] == "f32"


def test_syntax_is_that_of_python_3_9() -> None:
    for path in HOME.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_of_nothing_but_places_the_innermost_is_told() -> None:
    said = "Exception from src/inference/core.cpp:117:\nException from src/plugin.cpp:58:\nCheck 'rank == 2' failed at src/node.cpp:20:\n"
    assert first_line(said) == "Check 'rank == 2' failed at src/node.cpp:20:"
    assert first_line(said + "the rank is 3\n") == "the rank is 3"
