"""Quantization-aware training from a recipe: the int8 model that is delivered has the ranges that were trained."""

from __future__ import annotations

import json

import numpy as np
import onnx

import edgekit
from edgekit.core.report import load_report
from edgekit.core.store import default_root

PASS = {"use": "qat", "training": {"epochs": 1, "batch": 20, "held_out": 0.2}}


def test_what_was_trained_is_what_is_delivered(kit):
    data = {"calibration": f"{kit.data}:calibration", "training": f"{kit.data}:calibration", "evaluation": f"{kit.data}:evaluation"}
    common = {"formats": ["onnx"], "precisions": ["int8"], "targets": ["x86-avx512-vnni"], "measure": {"enabled": False}}
    report = edgekit.compress(kit.recipe(name="tiny", passes=[PASS], data=data, **common), out=kit.out)
    assert any(note.startswith("qat: 2 steps") for note in report.notes)

    (plan,) = [json.loads(path.read_text()) for path in default_root().glob("objects/*/*/plan.json") if "trained" in path.read_text()]
    steps = {one["name"]: (one["high"] - one["low"]) / 255 for one in plan["metadata"]["trained"]["ranges"]}
    (target,) = load_report(kit.out).targets
    stored = onnx.load(kit.out / load_report(kit.out).model(target.chosen).file).graph.initializer
    scales = [float(onnx.numpy_helper.to_array(i)) for i in stored if i.name.endswith("_scale") and not i.dims]
    assert len(steps) == 4
    assert all(np.isclose(step, scales, rtol=1e-5).any() for step in steps.values()), steps
