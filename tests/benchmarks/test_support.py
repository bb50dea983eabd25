from __future__ import annotations

import numpy as np
import pytest
import yaml

from benchmarks import support
from benchmarks.families import FAMILIES, SAMPLES, samples
from edgekit.core.target import load_target

CELL = {
    "state": "ok",
    "precision": "int8-static",
    "max_difference": 0.0123,
    "cosine": 0.99912,
    "metric": "top1",
    "before": 91.0,
    "after": 90.4,
}


def test_there_are_enough_families_each_under_its_own_name() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES) >= 16
    assert all(bool(family.recipe) != bool(family.make) for family in FAMILIES)


def test_random_inputs_are_the_same_every_time() -> None:
    family = next(family for family in FAMILIES if family.name == "BERT")
    first, second = samples(family), samples(family)
    assert first["input_ids"].shape == (SAMPLES, 32)
    assert first["attention_mask"].min() == 1
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("content", "checkpoint", "raced", "wanted"),
    [
        (CELL, "real", {"speedup": 2.345}, "1e-02, top1 91.0 -> 90.4, 2.3x"),
        (CELL, "random", None, "1e-02, cosine 0.9991"),
        ({**CELL, "precision": "fp32", "max_difference": 2e-6}, "random", {"speedup": 1.0}, "2e-06"),
        (
            {"state": "refused", "reason": "no layer | becomes int4"},
            "real",
            None,
            "refused: no layer / becomes int4",
        ),
        ({}, "real", None, "not run"),
    ],
)
def test_a_cell_says_what_was_measured(content: dict, checkpoint: str, raced: dict | None, wanted: str) -> None:
    assert support.shown(content, checkpoint, raced) == wanted


def test_the_table_marks_random_checkpoints() -> None:
    cells = {"fp32": CELL, "int8": {}, "int4": {}}
    rows = [{"family": "BERT", "checkpoint": kind, "format": "onnx", "cells": cells, "race": {}} for kind in ("real", "random")]
    lines = support.table(rows)
    assert lines[2].startswith("| BERT | onnx |")
    assert lines[3].startswith("| *BERT* | onnx |")


def test_nothing_is_timed_on_the_profile_that_judges(tmp_path) -> None:
    from edgekit.core.machine import this_machine

    target = load_target(str(support.untimed(tmp_path)))
    assert not target.measurable_on(this_machine())
    assert {backend.format for backend in target.backends} == {"onnx", "openvino", "tflite"}


def test_a_real_set_is_cut_to_some_samples(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", "/data")
    content = yaml.safe_load(support.limited("imagenet-samples", "evaluation", 200, tmp_path).read_text(encoding="utf-8"))
    assert content["splits"] == {"evaluation": {"count": 200}}
    assert content["read"]["path"].startswith("/data/")
    assert content["classes"].endswith("calibration/imagenet-classes.txt")
