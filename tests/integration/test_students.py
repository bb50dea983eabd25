"""A student that takes the model's place, from recipe to delivered model."""

from __future__ import annotations

from pathlib import Path

import onnx
import yaml

from edgekit.cli.main import main
from edgekit.core.report import load_report

NARROW = """
from torch import nn


def narrow():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))
"""
PASSES = [{"use": "student", "arch": "narrow.py:narrow"}, {"use": "distil", "training": {"epochs": 1, "batch": 20, "held_out": 0.2}}]


def delivered_width(kit) -> int:
    """Run the recipe and tell how many hidden units the delivered model has."""
    data = {"calibration": f"{kit.data}:calibration", "training": f"{kit.data}:calibration", "evaluation": f"{kit.data}:evaluation"}
    recipe = kit.recipe(name="narrow", passes=PASSES, data=data, precisions=["int8"], targets=["x86-avx2"])
    assert main(["compress", str(recipe), "-o", "run"]) == 0
    (target,) = load_report(kit.out).targets
    weights = onnx.load(kit.out / load_report(kit.out).model(target.chosen).file).graph.initializer
    return min(dim for weight in weights for dim in weight.dims if len(weight.dims) == 2 and 64 in weight.dims)


def test_what_is_prepared_is_the_original_that_all_are_compared_with(kit):
    kit.file("narrow.py", NARROW.replace("WIDTH", "5"))
    data = {"calibration": f"{kit.data}:calibration", "training": f"{kit.data}:calibration", "evaluation": f"{kit.data}:evaluation"}
    recipe = kit.recipe(name="narrow", prepare=PASSES, data=data, precisions=["fp32"], formats=["onnx"], targets=["x86-avx2"])
    assert main(["compress", str(recipe), "-o", "run"]) == 0
    (export,) = load_report(kit.out).models
    assert export.role == "export"  # not a candidate: nothing was done to what was prepared
    weights = onnx.load(kit.out / str(export.file)).graph.initializer
    assert {5} < {dim for weight in weights for dim in weight.dims}
    written = yaml.safe_load((kit.out / "recipe.yaml").read_text())
    assert written["prepare"][0]["arch"] == f"{Path(kit.folder).resolve()}/narrow.py:narrow"


def test_a_student_is_taught_and_delivered_and_made_again_when_its_file_changes(kit):
    for width in (6, 7):
        kit.file("narrow.py", NARROW.replace("WIDTH", str(width)))
        assert delivered_width(kit) == width
    written = yaml.safe_load((kit.out / "recipe.yaml").read_text())
    assert written["passes"][0]["arch"] == f"{Path(kit.folder).resolve()}/narrow.py:narrow"
