"""The hard case: a real MobileNetV1 x0.25 that int8 ruins, saved by MSE ranges and a few layers in float."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.chatter import muted
from edgekit.core.plugin import Context, Exporter, Host, Quantizer, RuntimeSettings
from edgekit.core.quantization import Int8Scheme
from edgekit.core.recipe import load_recipe
from edgekit.core.registry import create
from edgekit.opening import open_data, open_source

RECIPE = Path(__file__).parents[2] / "benchmarks/recipes/mobilenet_v1.yaml"


@pytest.mark.slow
@pytest.mark.parametrize(("format_", "runtime", "activations"), [("onnx", "onnxruntime", "uint8"), ("tflite", "litert", "int8")])
def test_a_few_layers_in_float_keep_the_accuracy(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str, runtime: str, activations: str
) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(data))
    recipe = load_recipe(RECIPE)
    sets = open_data(recipe)
    calibration, evaluation = sets.calibration, sets.evaluation
    assert calibration is not None
    assert evaluation is not None
    scheme = Int8Scheme.model_validate({"activations": activations, "symmetric": False, "reduce_range": False})
    context = Context(example=next(calibration.batches(1))[0], calibration=calibration, scheme=scheme)
    for folder in ("checkpoint", "float", "int8"):
        (tmp_path / folder).mkdir()
    checkpoint = open_source(recipe.model, recipe.base).fetch(tmp_path / "checkpoint", context)
    model = create(Exporter, format_, "e").export(checkpoint, tmp_path / "float", context)
    quantizer = create(Quantizer, {"use": f"{format_}_int8_static", "spec": recipe.quantization.model_dump()}, "q")

    plan = quantizer.plan(model, context)
    made = quantizer.perform(model, plan, tmp_path / "int8", context)

    kept = [layer.layer for layer in plan if layer.precision == "fp32" and "dB" in layer.reason]
    assert {"stage1.0.0", "stage1.1.0", "stage1.1.3"} <= set(kept)
    assert len(kept) <= 8
    batches = list(evaluation.batches(1))
    inputs, labels = [inputs for inputs, _ in batches], np.array([labels[0] for _, labels in batches])
    right, found = (_outputs(path, runtime, inputs) for path in (model.model, made.model))
    assert 10 * np.log10((right**2).sum() / ((found - right) ** 2).sum()) > 21
    assert (right.argmax(1) == labels).mean() == pytest.approx(0.516, abs=0.003)
    assert (found.argmax(1) == labels).mean() >= 0.506


def _outputs(model: Path, runtime: str, inputs: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    with muted(native=True):
        session = create(Host, "in_process", "h").open(model, runtime, RuntimeSettings())
    with session:
        return np.concatenate([next(iter(session.run(sample).values())) for sample in inputs])
