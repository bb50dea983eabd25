"""MSE ranges and a wished signal-to-noise ratio in LiteRT, on a network whose noisy layers are known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit.core import tflite_model
from edgekit.core.artifacts import Artifact
from edgekit.core.chatter import muted
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Context, Exporter, Quantizer, Source
from edgekit.core.progress import Silent
from edgekit.core.quantization import Int8Scheme, LayerPlan, QuantizationSpec
from edgekit.core.registry import create
from edgekit.quantizers._tflite import tensor_ranges
from edgekit.quantizers._tflite_ranges import LeastError, following_functions
from edgekit.quantizers._tflite_sensitivity import stranded

pytest.importorskip("litert_torch")

SCHEME = Int8Scheme(activations="int8", symmetric=False, reduce_range=False)
IMAGES = np.random.default_rng(1).laplace(size=(64, 3, 16, 16)).astype(np.float32)
ARCH = '''
import torch
from torch import nn


class Noisy(nn.Module):
    """One channel of the stem is 50 times the others and the body ignores it: noise for nothing."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.act = nn.ReLU()
        self.body = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.leaky = nn.LeakyReLU(0.05)
        self.head = nn.Linear(392, 5)

    def forward(self, image):
        x = self.leaky(self.body(self.act(self.stem(image))))
        return self.head(x.flatten(1))


def noisy():
    return Noisy()
'''


class Samples:
    """The images, one at a time."""

    digest = "samples"
    name = "samples"

    def __len__(self) -> int:
        return len(IMAGES)

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
        for image in IMAGES[: limit or len(IMAGES)]:
            yield {"image": image[None]}, [0]


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    import torch

    from edgekit.core.factories import find_function

    folder = tmp_path_factory.mktemp("noisy")
    (folder / "arch.py").write_text(ARCH, encoding="utf-8")
    torch.manual_seed(0)
    module = find_function(f"{folder / 'arch.py'}:noisy")()
    with torch.no_grad():
        module.stem.weight[0] *= 50
        module.body.weight[:, 0] = 0
    torch.save(module.state_dict(), folder / "noisy.pth")
    for name in ("checkpoint", "float"):
        (folder / name).mkdir()
    source = create(Source, {"use": "pytorch", "path": str(folder / "noisy.pth"), "arch": f"{folder / 'arch.py'}:noisy"}, "model")
    checkpoint = source.fetch(folder / "checkpoint", Context(example={}))
    return create(Exporter, "tflite", "x").export(checkpoint, folder / "float", context())


def context(listener: Silent | None = None) -> Context:
    return Context(example={"image": IMAGES[:1]}, calibration=Samples(), scheme=SCHEME, progress=listener or Silent())  # type: ignore[arg-type]


def static(**spec: object) -> Quantizer:
    return create(Quantizer, {"use": "tflite_int8_static", "spec": spec}, "q")


def quantize(model: Artifact, out: Path, **spec: object) -> tuple[Artifact, list[LayerPlan]]:
    out.mkdir()
    plan = static(**spec).plan(model, context())
    return static(**spec).perform(model, plan, out, context()), plan


def run(model: Artifact) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    with muted(native=True):
        interpreter = Interpreter(model_path=str(model.model), num_threads=1)
        interpreter.allocate_tensors()
    found = []
    for image in IMAGES:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(found)


def ratio(model: Artifact, made: Artifact, count: int = len(IMAGES)) -> float:
    right, found = run(model)[:count], run(made)[:count]
    return float(10 * np.log10((right**2).sum() / ((found - right) ** 2).sum()))


def ranges(model: Artifact, calibration: str) -> dict[str, tuple[float, float]]:
    found = tensor_ranges(model, QuantizationSpec(calibration=calibration), context())  # type: ignore[arg-type]
    return {name: (ends["min"].item(), ends["max"].item()) for name, ends in found.items()}


def test_mse_ranges_clip_long_tails_but_never_the_outputs(model: Artifact) -> None:
    observer = LeastError(model, len(IMAGES))
    for image in IMAGES:
        observer.see({"image": image, "head": image})
    low, high = observer.ranges()["image"]
    assert observer.ranges()["head"] == (IMAGES.min(), IMAGES.max())
    assert 0.8 * IMAGES.min() > low > 0.97 * IMAGES.min()
    assert 0.8 * IMAGES.max() < high < 0.97 * IMAGES.max()


def test_ranges_come_from_all_samples_and_are_judged_after_the_activation(model: Artifact) -> None:
    widest, best = ranges(model, "minmax"), ranges(model, "mse")
    assert widest["image"] == (IMAGES.min(), IMAGES.max())
    assert best["head"] == widest["head"]
    assert best["body"][0] > 0.75 * widest["body"][0]  # LeakyReLU lets a twentieth of what is clipped through


def test_functions_are_found_where_a_tensor_goes_nowhere_else(model: Artifact) -> None:
    tree = tflite_model.read(model.model)
    found = following_functions(tree)
    assert set(found) == {"body"}
    assert found["body"](np.array([-2.0, 3.0])) == pytest.approx([-0.1, 3.0])
    graph = tree.subgraphs[0]
    graph.outputs = [*graph.outputs, next(index for index, tensor in enumerate(graph.tensors) if tensor.name == b"body")]
    assert following_functions(tree) == {}


def test_the_file_has_the_grid_of_the_ranges(model: Artifact, tmp_path: Path) -> None:
    made, _ = quantize(model, tmp_path / "q", calibration="mse")
    graph = tflite_model.read(made.model).subgraphs[0]
    low, high = ranges(model, "mse")["body"]
    body = next(t for t in graph.tensors if t.name == b"body" and t.quantization is not None and t.quantization.scale is not None)
    assert body.quantization.scale[0] == pytest.approx((high - low) / 255, rel=1e-5)
    assert int(body.quantization.zeroPoint[0]) == pytest.approx(-128 - low * 255 / (high - low), abs=1)


def test_noisy_layers_stay_in_float_until_the_outputs_are_clean_enough(model: Artifact, tmp_path: Path) -> None:
    everything, _ = quantize(model, tmp_path / "a")
    made, plan = quantize(model, tmp_path / "b", calibration="mse", min_sqnr=28)
    kept = {layer.layer: layer.reason for layer in plan if layer.precision == "fp32"}
    assert ratio(model, everything) < 25
    assert ratio(model, made, 32) >= 28
    assert {"stem", "body"} & set(kept)
    assert all(re.fullmatch(r"\d+\.\d dB alone; kept in float to reach 28 dB", kept[name]) for name in kept if name in ("stem", "body"))
    head = next(layer for layer in plan if layer.layer == "head")
    assert (head.precision, head.reason.endswith(" dB alone")) == ("int8-static", True)
    assert '"precision": "fp32"' in (tmp_path / "b" / "plan.json").read_text()


def test_a_modest_wish_keeps_all_layers_integer_and_tells_what_it_measured(model: Artifact) -> None:
    listener = Listener()
    plan = static(min_sqnr=3).plan(model, context(listener))
    assert all(layer.precision == "int8-static" for layer in plan)
    assert re.fullmatch(r"0 of 3 layers stay in float; outputs then at \d+\.\d dB on calibration samples", listener.notes[0])


def test_a_wish_beyond_int8_says_what_can_be_had(model: Artifact) -> None:
    with pytest.raises(QuantizationError, match=r"at 90 dB leave no layer in int8 \(hint: ask for less: .* reaches [2-6]\d dB alone"):
        static(min_sqnr=90).plan(model, context())


def test_a_wish_needs_samples(model: Artifact) -> None:
    with pytest.raises(QuantizationError, match="calibration samples"):
        static(min_sqnr=20).plan(model, Context(example={"image": IMAGES[:1]}, scheme=SCHEME))


def test_plan_and_bytes_are_the_same_every_time(model: Artifact, tmp_path: Path) -> None:
    first, second = (quantize(model, tmp_path / str(i), calibration="mse", min_sqnr=28) for i in range(2))
    assert first[1] == second[1]
    assert first[0].digest == second[0].digest


def test_layers_between_float_ones_become_float(monkeypatch: pytest.MonkeyPatch) -> None:
    def layer(name: str, inputs: list[int], outputs: list[int], weighted: bool = False) -> tflite_model.Layer:
        return tflite_model.Layer(name, name.upper(), weighted, SimpleNamespace(inputs=inputs, outputs=outputs))

    chain = [
        layer("turn", [0], [1]),
        layer("pad", [1], [2]),
        layer("stem", [2], [3], weighted=True),
        layer("leaky", [3], [4]),
        layer("pad2", [4], [5]),
        layer("body", [5], [6], weighted=True),
        layer("pool", [6], [7]),
        layer("head", [7], [8], weighted=True),
        layer("alone", [8], [9]),
    ]
    monkeypatch.setattr(tflite_model, "layers", lambda model: chain)
    integer = {"turn", "pad", "stem", "pad2", "body", "pool", "head"}
    assert stranded(None, integer, ["stem"]) == {"turn", "pad"}
    assert stranded(None, integer, ["body"]) == {"pad2"}
    assert stranded(None, integer, ["body", "head"]) == {"pad2", "pool"}
    assert stranded(None, integer, []) == set()
