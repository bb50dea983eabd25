"""The same search in every format, on a network whose noisy layers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.chatter import muted
from edgekit.core.plugin import Context, Exporter, Quantizer, RuntimeSettings, Source, Task
from edgekit.core.quantization import Int8Scheme
from edgekit.core.registry import create
from edgekit.search import precision
from edgekit.sessions import NATIVE, open_session

pytest.importorskip("litert_torch")

FORMATS = ("onnx", "openvino", "tflite")
IMAGES = np.random.default_rng(1).laplace(size=(64, 3, 16, 16)).astype(np.float32)
ARCH = '''
import torch
from torch import nn


class Noisy(nn.Module):
    """One channel of the stem is 200 times the others and the body ignores it: noise for nothing."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.act = nn.ReLU()
        self.body = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.leaky = nn.LeakyReLU(0.05)
        self.tail = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.ReLU()
        self.head = nn.Linear(392, 5)

    def forward(self, image):
        x = self.leaky(self.body(self.act(self.stem(image))))
        return self.head(self.last(self.tail(x)).flatten(1))


def noisy():
    return Noisy()
'''


class Samples:
    """The images, one at a time, without labels."""

    name = digest = "samples"
    classes = ()
    provenance: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(IMAGES)

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
        for image in IMAGES[: limit or len(IMAGES)]:
            yield {"image": image[None]}, [None]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    import torch

    from edgekit.core.factories import find_function

    folder = tmp_path_factory.mktemp("noisy")
    (folder / "arch.py").write_text(ARCH, encoding="utf-8")
    torch.manual_seed(0)
    module = find_function(f"{folder / 'arch.py'}:noisy")()
    with torch.no_grad():
        module.stem.weight[0] *= 200
        module.body.weight[:, 0] = 0
        module.head.weight *= 30
    torch.save(module.state_dict(), folder / "noisy.pth")
    (folder / "checkpoint").mkdir()
    source = create(Source, {"use": "pytorch", "path": str(folder / "noisy.pth"), "arch": f"{folder / 'arch.py'}:noisy"}, "model")
    return source.fetch(folder / "checkpoint", Context(example={}))


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    made: dict[str, Artifact] = {}

    def get(name: str) -> Artifact:
        if name not in made:
            out = tmp_path_factory.mktemp(name)
            made[name] = create(Exporter, name, "x").export(checkpoint, out, Context(example={"image": IMAGES[:1]}))
        return made[name]

    return get


Exported = Callable[[str], Artifact]


def assigned(model: Artifact, out: Path, max_drop: float, *, timed: bool = False, **spec: object) -> tuple[Artifact, dict[str, Any]]:
    """The model, and the rows of its plan by layer."""
    out.mkdir()
    quantizer = create(Quantizer, {"use": f"{model.format}_int8_static", "spec": spec}, "q")
    tflite = model.format == "tflite"
    context = Context(
        example={"image": IMAGES[:1]},
        calibration=Samples(),  # type: ignore[arg-type]
        task=create(Task, "image_classification", "t"),
        scheme=Int8Scheme(activations="int8" if tflite else "uint8", symmetric=False, reduce_range=not tflite),
    )
    opened = partial(open_session, runtime=NATIVE[model.format], settings=RuntimeSettings(), fresh=False)
    with muted(native=True):
        made = precision.assign(model, quantizer, context, out, max_drop=max_drop, judged=opened, raced=opened if timed else None)
    rows = json.loads((out / "plan.json").read_text())
    return made, {row["layer"]: row for row in rows}


def outputs(model: Artifact) -> np.ndarray:
    with muted(native=True), open_session(model.model, NATIVE[model.format], RuntimeSettings(), fresh=False) as session:
        return np.concatenate([next(iter(session.run({"image": image[None]}).values())) for image in IMAGES])


def record(made: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made.path / "search.json").read_text())
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_the_layer_with_the_planted_noise_stays_in_float(name: str, exported: Exported, tmp_path: Path) -> None:
    made, rows = assigned(exported(name), tmp_path / "q", 3.0)
    kept = {layer for layer in ("stem", "body", "tail", "head") if rows[layer]["precision"] == "fp32"}
    assert {"body"} <= kept <= {"stem", "body"}
    assert all(rows[layer]["reason"].endswith("kept in float to lose at most 3 points") for layer in kept)
    found = record(made)
    everything = next(tried["drop"] for tried in found["tried"] if not tried["in_float"])
    assert found["drop"] <= 3 < 10 < everything
    right, given = outputs(exported(name)), outputs(made)
    assert (given.argmax(axis=1) == right.argmax(axis=1)).mean() > 0.9


@pytest.mark.parametrize("name", FORMATS)
def test_a_budget_of_nothing_is_said_to_be_out_of_reach(name: str, exported: Exported, tmp_path: Path) -> None:
    made, rows = assigned(exported(name), tmp_path / "q", 0.0)
    found = record(made)
    assert found["met"] is False
    assert found["drop"] == min(tried["drop"] for tried in found["tried"]) > 0
    assert "can't be met" in precision.summary(made)[0]
    assert any(row["precision"] == "int8-static" for row in rows.values())


@pytest.mark.parametrize("name", FORMATS)
def test_same_plan_and_bytes_every_time(name: str, exported: Exported, tmp_path: Path) -> None:
    (first, one), (second, two) = (assigned(exported(name), tmp_path / str(i), 1.0) for i in range(2))
    assert one == two
    assert first.digest == second.digest


@pytest.mark.parametrize("name", FORMATS)
def test_latency_is_measured_beside_float_and_all_integers(name: str, exported: Exported, tmp_path: Path) -> None:
    made, _ = assigned(exported(name), tmp_path / "q", 1.0, timed=True)
    found = record(made)
    assert found["met"] is True
    assert min(found["latency_ms"], found["all_integer_ms"], found["float_ms"]) > 0


@pytest.mark.parametrize("name", FORMATS)
def test_what_the_recipe_excludes_is_no_choice(name: str, exported: Exported, tmp_path: Path) -> None:
    made, rows = assigned(exported(name), tmp_path / "q", 1.0, exclude=["tail"])
    assert rows["tail"]["reason"] == "excluded by the recipe"
    assert record(made)["choices"] == 3
