"""The hard case: a real MobileNetV1 x0.25 that int8 ruins, saved by MSE ranges and a few layers in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgekit.core.plugin import Context, Exporter, Quantizer
from edgekit.core.quantization import Int8Scheme
from edgekit.core.recipe import load_recipe
from edgekit.core.registry import create
from edgekit.opening import open_data, open_source

RECIPE = Path(__file__).parents[2] / "benchmarks/recipes/mobilenet_v1.yaml"


@pytest.mark.slow
def test_mobilenet_keeps_its_accuracy_with_a_few_layers_in_float(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(data))
    recipe = load_recipe(RECIPE)
    calibration, evaluation = open_data(recipe)
    assert calibration is not None
    assert evaluation is not None
    scheme = Int8Scheme(activations="uint8", symmetric=False, reduce_range=False)
    context = Context(example=next(calibration.batches(1))[0], calibration=calibration, scheme=scheme)
    for folder in ("checkpoint", "float", "int8"):
        (tmp_path / folder).mkdir()
    checkpoint = open_source(recipe.model, recipe.base).fetch(tmp_path / "checkpoint", context)
    model = create(Exporter, "onnx", "e").export(checkpoint, tmp_path / "float", context)
    quantizer = create(Quantizer, {"use": "onnx_int8_static", "spec": {"calibration": "mse", "min_sqnr": 22}}, "q")

    plan = quantizer.plan(model, context)
    made = quantizer.perform(model, plan, tmp_path / "int8", context)

    kept = [layer.layer for layer in plan if layer.precision == "fp32"]
    assert {"stage1.0.0", "stage1.1.0", "stage1.1.3"} <= set(kept)
    assert len(kept) <= 8
    batches = list(evaluation.batches(1))
    inputs, labels = [inputs for inputs, _ in batches], np.array([labels[0] for _, labels in batches])
    right, found = (_outputs(path, inputs) for path in (model.model, made.model))
    assert 10 * np.log10((right**2).sum() / ((found - right) ** 2).sum()) > 21
    assert (right.argmax(1) == labels).mean() == pytest.approx(0.516, abs=0.003)
    assert (found.argmax(1) == labels).mean() >= 0.506


def _outputs(model: Path, inputs: list[dict[str, np.ndarray]]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, sample)[0] for sample in inputs])
