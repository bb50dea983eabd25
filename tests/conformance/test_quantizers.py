"""What every quantizer promises: a plan that can be read, a smaller model that follows it, and a refusal of what it can't honour."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core import digest
from edgekit.core.artifacts import Artifact
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Context, Quantizer
from edgekit.core.quantization import Int8Scheme, LayerPlan
from edgekit.core.registry import create, load, names
from edgekit.runner import load as open_model
from edgekit.sessions import NATIVE

SCHEMES = {
    "onnx": Int8Scheme(activations="uint8", symmetric=False, reduce_range=True),
    "openvino": Int8Scheme(activations="uint8", symmetric=False, reduce_range=True),
    "tflite": Int8Scheme(activations="int8", symmetric=False, reduce_range=False),
}
REFUSED = {"openvino_int8_static": ("entropy",), "openvino_int8_dynamic": ("tensor",)}
"""Settings that a format's quantizer does not have; whatever is not listed must be honoured."""
CALIBRATING = [name for name in names(Quantizer) if load(Quantizer, name).calibrates]
SCRIPT = """
import runpy, sys
from pathlib import Path
tests = runpy.run_path(sys.argv[1])
from edgekit.core.artifacts import Artifact
print(tests["quantize"](sys.argv[2], Artifact.load(Path(sys.argv[3])), Path(sys.argv[4]))[0].digest)
"""
Exported = Callable[[str], Artifact]
every_quantizer = pytest.mark.parametrize("name", names(Quantizer))


class Samples:
    """Random images, of which never more than one is asked for at a time."""

    name = digest = "random"

    def __init__(self, count: int = 24) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
        assert size == 1
        for seed in range(min(self.count, limit or self.count)):
            yield {"image": np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32)}, [0]


def quantize(name: str, model: Artifact, out: Path, **spec: object) -> tuple[Artifact, list[LayerPlan]]:
    quantizer = create(Quantizer, {"use": name, "spec": spec}, "quantizer")
    image = next(Samples().batches())[0]
    context = Context(example=image, calibration=Samples(), scheme=SCHEMES[model.format])  # type: ignore[arg-type]
    plan = quantizer.plan(model, context)
    return quantizer.perform(model, plan, out, context), plan


def run(model: Artifact) -> np.ndarray:
    opened = open_model(model.model, NATIVE[model.format], threads=1, precision="f32")
    outputs = [opened.run(sample)["output"] for sample, _ in Samples().batches()]
    opened.close()
    return np.concatenate(outputs)


@pytest.fixture(scope="module")
def quantized(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Artifact, list[LayerPlan]]]:
    made: dict[str, tuple[Artifact, list[LayerPlan]]] = {}

    def get(name: str) -> tuple[Artifact, list[LayerPlan]]:
        if name not in made:
            made[name] = quantize(name, exported(load(Quantizer, name).accepts), tmp_path_factory.mktemp(name))
        return made[name]

    return get


Quantized = Callable[[str], tuple[Artifact, list[LayerPlan]]]


@every_quantizer
def test_artifact_says_what_it_is_and_keeps_inputs_and_outputs(name: str, exported: Exported, quantized: Quantized) -> None:
    kind = load(Quantizer, name)
    model, (made, _) = exported(kind.accepts), quantized(name)
    assert (made.format, made.precision) == (kind.accepts, kind.precision)
    assert (made.inputs, made.outputs) == (model.inputs, model.outputs)
    assert Artifact.load(made.path) == made
    assert made.digest == digest.of_tree(made.path, skip=("artifact.json", "plan.json")) != model.digest


@every_quantizer
def test_plan_is_saved_beside_the_model_and_names_layers_of_the_module(name: str, quantized: Quantized) -> None:
    made, plan = quantized(name)
    kind = load(Quantizer, name)
    assert [LayerPlan(**row) for row in json.loads((made.path / "plan.json").read_text(encoding="utf-8"))] == plan
    planned = {layer.layer: layer.precision for layer in plan}
    assert planned["head"] == kind.precision
    assert all(layer.reason for layer in plan if layer.precision == "fp32")
    assert "plan.json" not in {path.name for path in made.files}


@every_quantizer
def test_outputs_stay_close_to_those_of_the_float_model(name: str, exported: Exported, quantized: Quantized) -> None:
    right, found = run(exported(load(Quantizer, name).accepts)), run(quantized(name)[0])
    assert 0 < np.sqrt(((found - right) ** 2).mean() / (right**2).mean()) < (0.2 if name.endswith("int4") else 0.05)


@every_quantizer
def test_three_samples_at_once_give_what_they_give_alone(name: str, quantized: Quantized) -> None:
    made, _ = quantized(name)
    assert made.inputs[0].shape[0] == "batch"
    together = np.concatenate([sample["image"] for sample, _ in Samples(3).batches()])
    opened = open_model(made.model, NATIVE[made.format], threads=1, precision="f32")
    found = opened.run({"image": together})["output"]
    opened.close()
    alone = run(made)[:3]
    assert np.sqrt(((found - alone) ** 2).mean() / (alone**2).mean()) < 0.02


@every_quantizer
def test_excluded_layer_stays_in_float_and_the_others_do_not(name: str, exported: Exported, quantized: Quantized, tmp_path: Path) -> None:
    _, plan = quantized(name)
    chosen = next((layer.layer for layer in plan if layer.precision != "fp32" and layer.layer != "head"), None)
    if chosen is None:
        assert name == "onnx_int8_dynamic", "every other quantizer takes convolutions too"
        return
    made, other = quantize(name, exported(load(Quantizer, name).accepts), tmp_path, exclude=[chosen])
    changed = {new.layer: new.precision for old, new in zip(plan, other, strict=True) if old.precision != new.precision}
    assert changed[chosen] == "fp32"
    assert "head" not in changed
    assert made.digest != quantized(name)[0].digest


@every_quantizer
def test_a_plan_changed_by_hand_is_followed(name: str, exported: Exported, quantized: Quantized, tmp_path: Path) -> None:
    quantizer = create(Quantizer, name, "quantizer")
    model = exported(quantizer.accepts)
    context = Context(example={}, calibration=Samples(), scheme=SCHEMES[model.format])  # type: ignore[arg-type]
    edited = [row.model_copy(update={"precision": "fp32"}) if row.layer == "pointwise" else row for row in quantizer.plan(model, context)]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    excluded, _ = quantize(name, model, tmp_path / "a", exclude=["pointwise"])
    assert quantizer.perform(model, edited, tmp_path / "b", context).digest == excluded.digest


@every_quantizer
def test_pattern_without_a_match_names_the_closest_layer(name: str, exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError) as problem:
        quantize(name, exported(load(Quantizer, name).accepts), tmp_path, exclude=["pointwize"])
    assert "pointwize" in problem.value.message
    assert "'pointwise'" in problem.value.hint


@every_quantizer
def test_nothing_left_to_quantize_is_refused(name: str, exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError) as problem:
        quantize(name, exported(load(Quantizer, name).accepts), tmp_path, exclude=["*"])
    assert problem.value.hint


@every_quantizer
def test_only_out_is_written_nothing_printed_and_the_input_untouched(
    name: str, exported: Exported, quantized: Quantized, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = exported(load(Quantizer, name).accepts)
    before = {path.name: digest.of_file(path) for path in model.path.rglob("*")}
    (tmp_path / "out").mkdir()
    again, _ = quantize(name, model, tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    assert {path.name: digest.of_file(path) for path in model.path.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert again.digest == quantized(name)[0].digest


@every_quantizer
def test_another_process_gives_the_same_bytes(name: str, exported: Exported, quantized: Quantized, tmp_path: Path) -> None:
    for folder in ("out", "home"):
        (tmp_path / folder).mkdir()
    model = exported(load(Quantizer, name).accepts)
    command = [sys.executable, "-c", SCRIPT, __file__, name, str(model.path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONHASHSEED": "7", "HOME": str(tmp_path / "home")})
    assert done.stdout.split() == [quantized(name)[0].digest], done.stderr[-2000:]
    assert not list((tmp_path / "home").iterdir()), "a library left something in the user's home"


@pytest.mark.parametrize("name", CALIBRATING)
def test_calibration_needs_samples_and_a_scheme(name: str, exported: Exported, tmp_path: Path) -> None:
    model = exported(load(Quantizer, name).accepts)
    quantizer = create(Quantizer, name, "quantizer")
    known = Context(example={}, scheme=SCHEMES[model.format])
    with pytest.raises(QuantizationError, match="calibration samples"):
        quantizer.perform(model, quantizer.plan(model, known), tmp_path, known)
    unknown = Context(example={}, calibration=Samples())  # type: ignore[arg-type]
    with pytest.raises(QuantizationError, match="int8 kernels"):
        quantizer.perform(model, quantizer.plan(model, unknown), tmp_path, unknown)


@pytest.mark.parametrize("name", CALIBRATING)
@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_calibration_method_is_honoured_or_refused(name: str, method: str, exported: Exported, tmp_path: Path) -> None:
    model = exported(load(Quantizer, name).accepts)
    if method in REFUSED.get(name, ()):
        with pytest.raises(QuantizationError, match=f"no {method} calibration"):
            quantize(name, model, tmp_path, calibration=method)
        return
    made, _ = quantize(name, model, tmp_path, calibration=method)
    right = run(model)
    assert np.sqrt(((run(made) - right) ** 2).mean() / (right**2).mean()) < 0.2


@pytest.mark.parametrize("name", CALIBRATING)
def test_more_samples_change_the_ranges(name: str, exported: Exported, quantized: Quantized, tmp_path: Path) -> None:
    made, _ = quantize(name, exported(load(Quantizer, name).accepts), tmp_path, samples=2)
    assert made.digest != quantized(name)[0].digest


@pytest.mark.parametrize("name", CALIBRATING)
def test_calibration_lets_samples_go(name: str, exported: Exported, tmp_path: Path) -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    class Watched(Samples):
        def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
            nonlocal most
            for sample, labels in super().batches(size, limit):
                alive.append(weakref.ref(sample["image"]))
                most = max(most, sum(ref() is not None for ref in alive))
                yield sample, labels

    model = exported(load(Quantizer, name).accepts)
    quantizer = create(Quantizer, name, "quantizer")
    context = Context(example={}, calibration=Watched(160), scheme=SCHEMES[model.format])  # type: ignore[arg-type]
    quantizer.perform(model, quantizer.plan(model, context), tmp_path, context)
    assert len(alive) >= 160
    assert most <= 40


@every_quantizer
def test_granularity_is_honoured_or_refused(name: str, exported: Exported, quantized: Quantized, tmp_path: Path) -> None:
    model = exported(load(Quantizer, name).accepts)
    if "tensor" in REFUSED.get(name, ()):
        with pytest.raises(QuantizationError, match="one scale a channel"):
            quantize(name, model, tmp_path, granularity="tensor")
        return
    made, _ = quantize(name, model, tmp_path, granularity="tensor")
    if load(Quantizer, name).precision != "fp16":
        assert made.digest != quantized(name)[0].digest


@every_quantizer
def test_trials_make_what_the_plan_says_from_one_preparation(name: str, exported: Exported, quantized: Quantized, tmp_path: Path) -> None:
    quantizer = create(Quantizer, name, "quantizer")
    model = exported(quantizer.accepts)
    context = Context(example={}, calibration=Samples(), scheme=SCHEMES[model.format])  # type: ignore[arg-type]
    trials = quantizer.trials(model, quantizer.plan(model, context), context)
    assert "head" in trials.choices
    (tmp_path / "all").mkdir()
    made, plan = quantized(name)
    assert trials.make(trials.without(()), tmp_path / "all").digest == made.digest
    assert trials.without(()) == plan
    alone = trials.alone("head")
    assert [row.layer for row in alone if row.precision != "fp32"] == ["head"]
    others = [choice for choice in trials.choices if choice != "head"]
    variants = [alone, trials.without(others)] if others else [alone]
    for number, variant in enumerate(variants):
        (tmp_path / str(number)).mkdir()
        right, found = run(model), run(trials.make(variant, tmp_path / str(number)))
        assert np.sqrt(((found - right) ** 2).mean() / (right**2).mean()) < 0.08
        assert next(row for row in variant if row.layer == "head").precision == load(Quantizer, name).precision
