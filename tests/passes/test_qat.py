from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.core.artifacts import Artifact, Checkpoint, Step
from edgekit.core.errors import QuantizationError, RecipeError
from edgekit.core.modules import load_module, save_module
from edgekit.core.plugin import Context, Exporter, Pass, Quantizer, Task
from edgekit.core.progress import Silent
from edgekit.core.quantization import Int8Scheme, LayerPlan
from edgekit.core.registry import create
from edgekit.data import open_dataset
from edgekit.passes import _engine
from edgekit.passes._rounded import Rounded, as_trained
from edgekit.passes.qat import Qat
from edgekit.runner import load

ARCH = """
from torch import nn
import torch

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.side = nn.Conv2d(8, 8, 3, padding=1)
        self.leaky = nn.LeakyReLU(0.1)
        self.head = nn.Linear(128, 10)

    def forward(self, input):
        x = torch.relu(self.norm(self.stem(input)))
        x = torch.relu(self.down(x))
        x = torch.relu(x + self.leaky(self.side(x)))
        return self.head(x.flatten(1))

def net():
    torch.manual_seed(0)
    return Net()
"""
QUICK = {"epochs": 1, "batch": 50, "learning_rate": 1e-3, "held_out": 0.1}
SIGNED = Int8Scheme(activations="int8", symmetric=False, reduce_range=False)
UNSIGNED = Int8Scheme(activations="uint8", symmetric=False, reduce_range=False)
Accuracy = Callable[[nn.Module], float]


class Stops(Silent):
    """Ends a training at a step, as a kill would."""

    def __init__(self, at: int) -> None:
        self._at = at

    def advance(self, done: int, total: int, said: str = "") -> None:
        if done == self._at and said.startswith("loss"):
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Outcome:
    """A trained checkpoint, and the rounded network that it was trained as."""

    checkpoint: Checkpoint
    net: Rounded

    def __call__(self, x: Tensor, *, but: tuple[str, ...] = ()) -> np.ndarray:
        """Run the rounded network; some tensors may stay unrounded."""
        for name, rounder in self.net.rounders.items():
            rounder.active = name not in but
        with torch.no_grad():
            found: np.ndarray = self.net.graph(x).numpy()
        return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what the tests share."""
    return tmp_path_factory.mktemp("qat")


@pytest.fixture(scope="module")
def context(digits: Path) -> Context:
    """What the pass may ask for, save teacher and scratch folder."""
    training = open_dataset(str(digits), role="training", base=digits.parent)
    task = create(Task, "image_classification", "task")
    return Context(example=next(training.batches(1))[0], calibration=training, training=training, task=task)


@pytest.fixture(scope="module")
def start(context: Context, home: Path) -> Checkpoint:
    """A network that has learned the digits a little."""
    from edgekit.core.factories import find_function

    (home / "arch.py").write_text(ARCH, encoding="utf-8")
    arch = f"{home}/arch.py:net"
    module = find_function(arch)()
    work = create(Pass, {"use": "finetune", "training": {**QUICK, "epochs": 3, "learning_rate": 1e-2}}, "p")
    work.perform(module, work.plan(module, context), context)
    (home / "start").mkdir()
    return save_module(module, home / "start", source="pytorch", description={"arch": arch, "arguments": {}})


@pytest.fixture(scope="module")
def made(start: Checkpoint, context: Context, home: Path) -> Outcome:
    """That network after one epoch with rounding."""
    return improve(start, context, home / "made")


def improve(start: Checkpoint, context: Context, out: Path, **options: Any) -> Outcome:
    work = create(Pass, {"use": "qat", "training": QUICK, **options}, "p")
    plan = json.loads(json.dumps(work.plan(load_module(start), context)))
    better = work.perform(load_module(start), plan, context)
    out.mkdir()
    ended = json.loads(json.dumps(better.plan))
    checkpoint = save_module(better.module, out, source="pytorch", description=start.description, steps=(Step("qat", ended),))
    return Outcome(checkpoint, as_trained(better.module, ended, context))


def quantize(made: Checkpoint, format_: str, context: Context, out: Path, **spec: Any) -> tuple[Artifact, list[LayerPlan]]:
    out.mkdir()
    (out / "float").mkdir()
    (out / "int8").mkdir()
    scheme = SIGNED if format_ == "tflite" else UNSIGNED
    model = create(Exporter, format_, "e").export(made, out / "float", context).noted(made.metadata)
    quantizer = create(Quantizer, {"use": f"{format_}_int8_static", "spec": {"samples": 20, **spec}}, "q")
    plan = quantizer.plan(model, replace(context, scheme=scheme))
    return quantizer.perform(model, plan, out / "int8", replace(context, scheme=scheme)), plan


def sqnr(wanted: np.ndarray, found: np.ndarray) -> float:
    """Signal-to-quantization-noise ratio in dB."""
    return float(10 * np.log10((wanted**2).sum() / max(float(((found - wanted) ** 2).sum()), 1e-30)))


@pytest.fixture
def pictures(digits: Path) -> Tensor:
    """200 digits that training did not see."""
    data = open_dataset(str(digits), role="evaluation", base=digits.parent)
    return torch.from_numpy(next(data.batches(200))[0]["input"])


def test_onnx_computes_what_was_trained(made: Outcome, context: Context, tmp_path: Path, pictures: Tensor) -> None:
    import onnx

    model, plan = quantize(made.checkpoint, "onnx", context, tmp_path / "onnx")
    session = load(model.model, "onnxruntime", precision="unsaturated")
    found = next(iter(session.run({"input": pictures.numpy()}).values()))
    wanted = made(pictures)
    assert sqnr(wanted, found) > 42
    assert (wanted.argmax(1) == found.argmax(1)).mean() > 0.99
    assert {layer.layer for layer in plan if layer.reason == "range from training"} >= {"Relu", "Relu_2", "side", "head"}
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(model.model).graph.initializer}
    assert_integers(made, list(stored.values()))
    scales = [float(value) for name, value in stored.items() if name.endswith("_scale") and value.ndim == 0]
    trained = made.checkpoint.metadata["trained"]["ranges"]
    unknown = [one["name"] for one in trained if not np.isclose((one["high"] - one["low"]) / 255, scales, rtol=1e-5).any()]
    assert unknown == ["leaky"]  # ONNX Runtime's quantizer leaves the inputs of a sum as they are


def test_openvino_computes_what_was_trained(made: Outcome, context: Context, tmp_path: Path, pictures: Tensor) -> None:
    import openvino

    model, plan = quantize(made.checkpoint, "openvino", context, tmp_path / "openvino")
    found = next(iter(load(model.model, "openvino", precision="unsaturated").run({"input": pictures.numpy()}).values()))
    wanted = made(pictures, but=("head", "side"))  # NNCF rounds neither the outputs nor between a layer and its LeakyReLU
    assert sqnr(wanted, found) > 42
    assert (wanted.argmax(1) == found.argmax(1)).mean() > 0.99
    assert {layer.layer for layer in plan if layer.reason == "range from training"} >= {"stem", "down", "side"}
    constants = [op.get_data() for op in openvino.Core().read_model(str(model.model)).get_ops() if op.get_type_name() == "Constant"]
    assert_integers(made, [value for value in constants if value.dtype == np.int8])


def test_litert_computes_what_was_trained(made: Outcome, context: Context, tmp_path: Path, pictures: Tensor) -> None:
    from edgekit.core import tflite_model

    model, plan = quantize(made.checkpoint, "tflite", context, tmp_path / "tflite")
    session = load(model.model, "litert")
    found = np.concatenate([next(iter(session.run({"input": one[None].numpy()}).values())) for one in pictures])
    wanted = made(pictures)
    assert sqnr(wanted, found) > 40
    assert (wanted.argmax(1) == found.argmax(1)).mean() > 0.98
    assert {layer.layer for layer in plan if layer.reason == "range from training"} >= {"stem", "down", "side", "head"}
    graph = tflite_model.read(model.model)
    tensors = graph.subgraphs[0].tensors
    integers = [
        np.asarray(tflite_model.constant(graph, layer.node.inputs[1])).view(np.int8).reshape(tensors[layer.node.inputs[1]].shape)
        for layer in tflite_model.layers(graph)
        if layer.weighted
    ]
    assert_integers(made, integers)


def assert_integers(made: Outcome, stored: list[np.ndarray]) -> None:
    """Hold the integers in a file, whatever the order of their axes, against those on whose grid the weights lie."""
    module = load_module(made.checkpoint)
    for name in ("stem.weight", "down.weight", "side.weight", "head.weight"):
        weight = module.get_parameter(name).detach().numpy()
        largest = np.abs(weight).reshape(len(weight), -1).max(1).reshape(-1, *[1] * (weight.ndim - 1))
        on_grid = weight / (largest / 127)
        assert np.allclose(on_grid, np.round(on_grid), atol=1e-3), name
        wanted = np.round(on_grid).astype(np.int8)
        orders = list(itertools.permutations(range(wanted.ndim)))
        same = [found for found in stored if found.ndim == wanted.ndim and any(np.array_equal(found.transpose(o), wanted) for o in orders)]
        assert len(same) == 1, name


def test_it_repairs_what_rounding_alone_ruins(start: Checkpoint, context: Context, tmp_path: Path, accuracy: Accuracy) -> None:
    hard = {"granularity": "tensor", "weight_bits": 3}
    untrained = improve(start, context, tmp_path / "untrained", **hard, training={**QUICK, "learning_rate": 1e-12})
    trained = improve(start, context, tmp_path / "trained", **hard, training={**QUICK, "epochs": 3})
    assert accuracy(load_module(start)) > 0.85
    assert accuracy(untrained.net.graph) < accuracy(trained.net.graph) - 0.03
    assert accuracy(trained.net.graph) > 0.8


def test_it_learns_from_a_teacher_without_labels(start: Checkpoint, context: Context, digits: Path, tmp_path: Path) -> None:
    unlabelled = open_dataset(f"{digits}:unlabelled", role="training", base=digits.parent)
    taught = replace(context, training=unlabelled, calibration=unlabelled, teacher=lambda: load_module(start))
    options = {"teacher": "original", "lesson": {"labels": 0}, "weight_bits": 3, "training": {**QUICK, "epochs": 2}}
    work = create(Pass, {"use": "qat", **options}, "p")
    assert work.taught_by == "original"
    better = work.perform(load_module(start), work.plan(load_module(start), taught), taught)
    assert better.record["metric"] == "-loss"
    assert better.record["before"] < better.record["epochs"][-1]["held_out"] < 0


def test_an_interrupted_training_ends_as_an_undisturbed_one(
    start: Checkpoint, made: Outcome, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = replace(context, scratch=tmp_path / "scratch")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(_engine, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        improve(start, replace(context, progress=Stops(7)), tmp_path / "killed")
    assert list((tmp_path / "scratch").iterdir())
    assert improve(start, context, tmp_path / "resumed").checkpoint.digest == made.checkpoint.digest


def test_a_symmetric_grid_is_trained_for_tensorrt(start: Checkpoint, context: Context, tmp_path: Path) -> None:
    made = improve(start, context, tmp_path / "qat", symmetric=True)
    assert all(one["low"] == pytest.approx(-one["high"]) for one in made.checkpoint.metadata["trained"]["ranges"])


def test_another_granularity_is_refused(made: Outcome, context: Context, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="trained for one scale a channel, the recipe asks for one a tensor") as told:
        quantize(made.checkpoint, "onnx", context, tmp_path / "onnx", granularity="tensor")
    assert "granularity: tensor" in told.value.hint


def test_ranges_of_another_model_are_refused(made: Outcome, context: Context, tmp_path: Path) -> None:
    strange = copy.deepcopy(made.checkpoint.metadata)
    for one in strange["trained"]["ranges"]:
        one["signature"][0] += 1
    (tmp_path / "float").mkdir()
    model = create(Exporter, "onnx", "e").export(made.checkpoint, tmp_path / "float", context).noted(strange)
    quantizer = create(Quantizer, {"use": "onnx_int8_static"}, "q")
    with pytest.raises(QuantizationError, match="none of the tensors"):
        quantizer.plan(model, replace(context, scheme=UNSIGNED))


def test_a_further_pass_makes_trained_ranges_void(start: Checkpoint) -> None:
    trained = {"metadata": {"trained": {}}}
    assert replace(start, steps=(Step("qat", trained),)).metadata == {"trained": {}}
    assert replace(start, steps=(Step("qat", trained), Step("finetune", {}))).metadata == {}


def test_a_model_without_layers_is_told(context: Context) -> None:
    with pytest.raises(RecipeError, match="no convolution or linear layer"):
        Qat().plan(nn.Sequential(nn.Flatten(), nn.ReLU()), context)


def test_a_model_that_branches_on_its_data_is_told(context: Context) -> None:
    class Branching(nn.Module):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the set's word
            return input.flatten(1) if input.sum() > 0 else -input.flatten(1)

    with pytest.raises(RecipeError, match="graph can't be captured"):
        Qat().plan(Branching(), context)
