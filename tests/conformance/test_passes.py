"""What every pass promises: a plan that is plain data, a module that comes back from it, the same from the same seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifacts import Checkpoint, Step
from edgekit.core.modules import load_module, outputs_of, save_module
from edgekit.core.plugin import Context, Exporter, Improvement, Pass, Task
from edgekit.core.registry import create, names, qualified
from edgekit.data import open_dataset

QUICK = {"epochs": 1, "batch": 40, "held_out": 0.2}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "finetune": {"training": QUICK},
    "distil": {"training": QUICK},
}
"""What a pass is tried with, where its defaults would take long."""


@pytest.fixture
def checkpoint(tiny_weights: Path, arch_file: Path, tmp_path: Path) -> Checkpoint:
    import torch

    from edgekit.core.factories import find_function

    arch = f"{arch_file}:tiny"
    module = find_function(arch)()
    module.load_state_dict(torch.load(tiny_weights, weights_only=True))
    (tmp_path / "start").mkdir()
    return save_module(module, tmp_path / "start", source="pytorch", description={"arch": arch, "arguments": {}})


@pytest.fixture
def context(tiny_data: Path, checkpoint: Checkpoint) -> Context:
    data = open_dataset(f"{tiny_data}:calibration", role="training", base=tiny_data.parent)
    return Context(
        example=next(data.batches(1))[0],
        calibration=data,
        training=data,
        task=create(Task, "image_classification", "task"),
        teacher=lambda: load_module(checkpoint),
    )


def made(name: str, checkpoint: Checkpoint, context: Context, out: Path) -> tuple[Improvement, Checkpoint]:
    work = create(Pass, {"use": name, **OPTIONS.get(name, {})}, "passes")
    plan = json.loads(json.dumps(work.plan(load_module(checkpoint), context)))
    better = work.perform(load_module(checkpoint), plan, context)
    out.mkdir()
    steps = (*checkpoint.steps, Step(name, plan))
    return better, save_module(better.module, out, source=checkpoint.source, description=checkpoint.description, steps=steps)


@pytest.fixture(params=names(Pass))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_plan_touches_nothing(name: str, checkpoint: Checkpoint, context: Context) -> None:
    import torch

    module = load_module(checkpoint)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    work = create(Pass, {"use": name, **OPTIONS.get(name, {})}, "passes")
    json.dumps(work.plan(module, context))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_the_result_comes_back_from_weights_and_plan(name: str, checkpoint: Checkpoint, context: Context, tmp_path: Path) -> None:
    better, saved = made(name, checkpoint, context, tmp_path / "out")
    assert not better.module.training
    (_, wanted) = outputs_of(better.module, [context.example])[0]
    (_, found) = outputs_of(load_module(Checkpoint.load(saved.path)), [context.example])[0]
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(wanted[key], found[key]) for key in wanted)
    assert all(np.isfinite(value).all() for value in found.values())


def test_the_same_seed_gives_the_same_bytes(name: str, checkpoint: Checkpoint, context: Context, tmp_path: Path) -> None:
    digests = {made(name, checkpoint, context, tmp_path / folder)[1].digest for folder in ("one", "two")}
    assert len(digests) == 1


def test_the_result_exports_and_runs_alike(name: str, checkpoint: Checkpoint, context: Context, tmp_path: Path) -> None:
    from edgekit.runner import load

    _, saved = made(name, checkpoint, context, tmp_path / "out")
    (tmp_path / "onnx").mkdir()
    model = create(Exporter, "onnx", "exporters").export(saved, tmp_path / "onnx", context)
    (_, wanted) = outputs_of(load_module(saved), [context.example])[0]
    found = load(model.model, "onnxruntime").run(context.example)
    assert all(np.allclose(wanted[key], found[key], atol=1e-4) for key in wanted)


def test_record_and_notes_are_plain(name: str, checkpoint: Checkpoint, context: Context, tmp_path: Path) -> None:
    better, _ = made(name, checkpoint, context, tmp_path / "out")
    assert json.loads(json.dumps(better.record)) == better.record
    assert all(note and "\n" not in note for note in better.notes)


def test_a_teacher_is_asked_for_by_those_that_need_one(name: str, checkpoint: Checkpoint, context: Context, tmp_path: Path) -> None:
    work = create(Pass, {"use": name, **OPTIONS.get(name, {})}, "passes")
    if work.taught_by is None:
        made(name, checkpoint, replace(context, teacher=None), tmp_path / "out")
    assert qualified(work) == f"passes.{name}"
