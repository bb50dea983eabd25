"""Pruning from a recipe: the pruned network is what is exported, and a speedup is measured where the model will run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import onnx
import pytest

import edgekit
from edgekit.core.report import Report
from edgekit.core.store import default_root

QUICK = {"epochs": 1, "batch": 40, "held_out": 0.2}


def run(kit, work: dict, **changes) -> Report:
    data = {"calibration": f"{kit.data}:calibration", "training": f"{kit.data}:calibration", "evaluation": f"{kit.data}:evaluation"}
    path = kit.recipe(name="tiny", formats=["onnx"], precisions=["fp32"], measure={"enabled": False}, data=data, passes=[work], **changes)
    return edgekit.compress(path, out=kit.out)


def weights(path: Path) -> int:
    stored = {i.name: math.prod(i.dims) for i in onnx.load(path).graph.initializer}
    return sum(count for name, count in stored.items() if name.endswith((".weight", ".bias")))


def test_what_was_pruned_in_two_steps_is_what_is_exported(kit):
    work = {"use": "prune", "macs": 0.7, "steps": 2, "recover": QUICK, "how": {"round_to": 1, "samples": 40}}
    report = run(kit, work)
    assert any(note.startswith(("prune: keeps 6", "prune: keeps 7")) for note in report.notes)
    (plan,) = [json.loads(path.read_text()) for path in default_root().glob("objects/*/*/plan.json") if "decisions" in path.read_text()]
    assert len(plan["decisions"]) == 2
    costs = plan["decisions"][1]["costs"]["parameters"]
    assert {weights(path) for path in default_root().glob("objects/*/*/model.onnx")} == {costs["before"], costs["after"]}


@pytest.mark.slow
def test_a_speedup_is_measured_in_the_targets_runtime(tmp_path):
    home = Path(edgekit.__file__).parent.parent
    recipe = tmp_path / "digits.yaml"
    recipe.write_text(
        f"""
schema: 1
model: {{path: {home}/benchmarks/digits_cnn.safetensors, arch: "{home}/benchmarks/models/digits_cnn.py:digits_cnn"}}
task: image_classification
data: {{calibration: "digits:calibration", training: "digits:calibration", evaluation: digits}}
formats: [onnx]
precisions: [fp32]
measure: {{enabled: false}}
passes: [{{use: prune, speedup: 1.3, recover: null, how: {{samples: 64}}}}]
""",
        encoding="utf-8",
    )
    report = edgekit.compress(recipe, out=tmp_path / "run")
    assert any("faster in onnxruntime when it was measured" in note and "1.3x wanted" in note for note in report.notes)
