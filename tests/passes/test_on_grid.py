"""Passes that prepare weights for a grid, on a network whose rounding hurts; and what the formats then make of its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.algorithms.grids import WeightGrid
from edgekit.core.artifacts import Checkpoint, Step
from edgekit.core.errors import QuantizationError, RecipeError
from edgekit.core.modules import save_module
from edgekit.core.plugin import Context, Exporter, Quantizer
from edgekit.core.quantization import Int8Scheme
from edgekit.core.registry import create
from edgekit.passes.adaround import AdaRound
from edgekit.passes.bias_correct import BiasCorrect

ARCH = """
from torch import nn


def separable():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
        nn.Conv2d(8, 16, 1, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 10),
    )
"""
LAYERS = ["0", "3", "5", "8"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    from edgekit.core.factories import find_function

    (tmp_path / "arch.py").write_text(ARCH, encoding="utf-8")
    (tmp_path / "start").mkdir()
    torch.manual_seed(0)
    module = find_function(f"{tmp_path}/arch.py:separable")()
    module[1].running_mean.uniform_(-0.5, 0.5)
    module[1].running_var.uniform_(0.5, 2)
    description = {"arch": f"{tmp_path}/arch.py:separable", "arguments": {}}
    return save_module(module, tmp_path / "start", source="pytorch", description=description)


@pytest.fixture
def network(checkpoint: Checkpoint) -> nn.Module:
    from edgekit.core.modules import load_module

    return load_module(checkpoint)


@pytest.fixture
def x(context: Context) -> Tensor:
    assert context.calibration is not None
    return torch.from_numpy(next(context.calibration.batches(600))[0]["input"])


def rounded(module: nn.Module, grid: WeightGrid) -> nn.Module:
    made = copy.deepcopy(module)
    for name in LAYERS:
        layer = made.get_submodule(name)
        layer.weight.data = grid.nearest(layer.weight.data.flatten(1)).reshape(layer.weight.shape)
    return made


def means(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Mean of each layer's output channels."""
    found = []
    with torch.no_grad():
        for index, layer in enumerate(module):  # type: ignore[arg-type]
            x = layer(x)
            if str(index) in LAYERS:
                found.append(x.mean(0) if x.ndim == 2 else x.mean((0, 2, 3)))
    return found


def folded(network: nn.Module, context: Context) -> nn.Module:
    from edgekit.passes._deployed import folded, folds_of

    return folded(network, folds_of(network, context))


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_corrected_biases_leave_no_mean_error_in_any_layer(network: nn.Module, context: Context, x: Tensor, granularity: Any) -> None:
    work = BiasCorrect(bits=4, granularity=granularity, samples=600)
    corrected = work.perform(copy.deepcopy(network), work.plan(network, context), context).module
    grid = WeightGrid(4, granularity)
    wanted = means(folded(network, context), x)
    for mean, found in zip(wanted, means(rounded(corrected, grid), x), strict=True):
        torch.testing.assert_close(found, mean, rtol=0, atol=1e-4)
    plain = means(rounded(folded(network, context), grid), x)
    assert max(float((a - b).abs().max()) for a, b in zip(wanted, plain, strict=True)) > 0.01


def test_bias_correction_leaves_the_weights(network: nn.Module, context: Context) -> None:
    work = BiasCorrect(samples=20)
    corrected = work.perform(copy.deepcopy(network), work.plan(network, context), context).module
    deployed = folded(network, context)
    assert all(torch.equal(corrected.get_submodule(n).weight, deployed.get_submodule(n).weight) for n in LAYERS)


def adaround(**options: Any) -> AdaRound:
    return AdaRound(**{"samples": 100, "iterations": 200, **options})


def test_adaround_gives_outputs_nearer_to_the_float_model(network: nn.Module, context: Context, x: Tensor) -> None:
    work = adaround(bits=4)
    better = work.perform(copy.deepcopy(network), work.plan(network, context), context)
    deployed = folded(network, context)
    wanted = deployed(x)
    plain = rounded(deployed, WeightGrid(4))(x)
    assert ((better.module(x) - wanted) ** 2).mean() < 0.5 * ((plain - wanted) ** 2).mean()
    assert all(error["rounded"] <= error["nearest"] for error in better.record["errors"].values())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_rounding_its_weights_again_changes_nothing(network: nn.Module, context: Context, bits: Any, granularity: Any) -> None:
    work = adaround(bits=bits, granularity=granularity)
    made = work.perform(network, work.plan(network, context), context).module
    again = rounded(made, WeightGrid(bits, granularity))
    for name in LAYERS:
        torch.testing.assert_close(again.get_submodule(name).weight, made.get_submodule(name).weight, rtol=3e-7, atol=0)


def test_excluded_layers_keep_their_weights(network: nn.Module, context: Context) -> None:
    work = adaround(exclude=("8",))
    made = work.perform(copy.deepcopy(network), work.plan(network, context), context).module
    assert torch.equal(made.get_submodule("8").weight, network.get_submodule("8").weight)


def test_wrong_wishes_are_told(network: nn.Module, context: Context) -> None:
    with pytest.raises(QuantizationError, match="matches no layer"):
        adaround(exclude=("head",)).plan(network, context)
    with pytest.raises(RecipeError, match="don't divide into groups"):
        adaround(granularity="group").plan(network, context)
    with pytest.raises(RecipeError, match="calibration"):
        adaround().perform(network, adaround().plan(network, context), replace(context, calibration=None))


def test_inputs_go_to_the_parameters_that_have_their_names() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, a: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
            x = self.first(a) if scale is None else self.first(a) * scale
            return self.last(torch.relu(x if shift is None else x + shift))

    class Pairs:
        def batches(self, size: int, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
            yield {name: value.numpy() for name, value in given.items()}, [None] * size

    torch.manual_seed(0)
    given = {"a": torch.randn(16, 8), "shift": 5 + torch.randn(16, 8)}
    net = Shifted().eval()
    context = Context(example={name: value[:1].numpy() for name, value in given.items()}, calibration=Pairs())  # type: ignore[arg-type]
    work = BiasCorrect(bits=4)
    corrected = work.perform(copy.deepcopy(net), work.plan(net, context), context).module
    for layer in (corrected.first, corrected.last):
        layer.weight.data = WeightGrid(4).nearest(layer.weight.data)
    torch.testing.assert_close(corrected(**given).mean(0), net(**given).mean(0))


def onnx_integers(model: Path) -> dict[str, np.ndarray]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model).graph
    arrays = [numpy_helper.to_array(i) for i in graph.initializer]
    return {str(i): a for i, a in enumerate(arrays) if a.dtype == np.int8 and a.ndim > 1}


def openvino_integers(model: Path) -> dict[str, np.ndarray]:
    import openvino

    graph = openvino.Core().read_model(model)
    constants = [n for n in graph.get_ops() if n.get_type_name() == "Constant" and n.get_element_type() == openvino.Type.i8]
    return {n.get_friendly_name(): n.data for n in constants}


def tflite_integers(model: Path) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model))
    details = [d for d in interpreter.get_tensor_details() if d["dtype"] == np.int8 and len(d["shape"]) > 1]
    found = {}
    for detail in details:
        try:
            value = interpreter.get_tensor(detail["index"])
        except ValueError:  # an activation, that has no value before the first run
            continue
        found[detail["name"]] = value
    return found


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    "onnx": onnx_integers,
    "openvino": openvino_integers,
    "tflite": tflite_integers,
}


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("format_", READERS)
def test_the_formats_quantizers_find_the_same_integers(
    checkpoint: Checkpoint, network: nn.Module, context: Context, tmp_path: Path, format_: str, granularity: Any
) -> None:
    work = adaround(granularity=granularity)
    plan = work.plan(network, context)
    made = work.perform(network, plan, context).module
    for folder in ("rounded", "float", "int8"):
        (tmp_path / folder).mkdir()
    step = Step("adaround", plan)
    saved = save_module(made, tmp_path / "rounded", source=checkpoint.source, description=checkpoint.description, steps=(step,))
    scheme = Int8Scheme(activations="int8" if format_ == "tflite" else "uint8", symmetric=False, reduce_range=False)
    context = replace(context, scheme=scheme)
    model = create(Exporter, format_, "e").export(saved, tmp_path / "float", context)
    quantizer = create(Quantizer, {"use": f"{format_}_int8_static", "spec": {"granularity": granularity, "samples": 20}}, "q")
    found = quantizer.perform(model, quantizer.plan(model, context), tmp_path / "int8", context)

    grid = WeightGrid(8, granularity)
    stored = sorted(sorted(a.flatten().tolist()) for a in READERS[format_](found.model).values() if a.size > 16)
    weights = [made.get_submodule(name).weight.detach().double().flatten(1) for name in LAYERS]
    wanted = sorted(sorted((w / grid.scales(w)).round().int().flatten().tolist()) for w in weights)
    assert stored == wanted


@pytest.mark.parametrize("work", [AdaRound(iterations=20, samples=20), BiasCorrect(samples=20)])
def test_layers_that_are_only_read_are_left_out(work: Any, context: Context) -> None:
    """What nn.MultiheadAttention holds is in the graph, and its own forward never runs."""

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1).unflatten(1, (8, 8))
            return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    module = Attending().eval()
    plan = work.plan(module, context)
    assert plan["layers"] == ["head"]
    assert isinstance(work.perform(module, plan, context).module, nn.Module)
