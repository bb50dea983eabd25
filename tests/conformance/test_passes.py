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
from edgekit.core.modules import load_module, outputs_of, save_improved, save_module
from edgekit.core.plugin import Context, Exporter, Improvement, Pass, Task
from edgekit.core.registry import create, name_of, names, qualified
from edgekit.data import open_dataset
from edgekit.opening import anchored_pass

QUICK = {"epochs": 1, "batch": 40, "held_out": 0.2}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "finetune": {"training": QUICK},
    "distil": {"training": QUICK},
    "prune": {"macs": 0.7, "steps": 2, "recover": QUICK, "how": {"round_to": 2, "samples": 40}},
    "sparsify": {"share": 0.5, "recover": QUICK},
    "qat": {"training": QUICK},
    "qat_int4": {"training": QUICK},
    "student": {"arch": "tiny_arch.py:tiny", "arguments": {"width": 4}},
    "equalize": {"samples": 20},
    "bias_correct": {"samples": 20},
    "adaround": {"samples": 20, "iterations": 50},
}
"""What a pass is tried with, where its defaults would take long; paths start from the test's folder."""
TRANSFORMERS = {"drop_layers"}
"""Passes that are tried on a tiny BERT; all others on a tiny CNN."""


@pytest.fixture(params=names(Pass))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def work(name: str, tmp_path: Path) -> Pass:
    return create(Pass, anchored_pass({"use": name, **OPTIONS.get(name, {})}, tmp_path), "passes")


@pytest.fixture
def checkpoint(name: str, arch_file: Path, tmp_path: Path) -> Checkpoint:
    (tmp_path / "start").mkdir()
    return tiny_bert(tmp_path / "start") if name in TRANSFORMERS else tiny_cnn(arch_file, tmp_path / "start")


def tiny_cnn(arch_file: Path, out: Path) -> Checkpoint:
    import torch

    from edgekit.core.factories import find_function

    arch = f"{arch_file}:tiny"
    torch.manual_seed(0)
    return save_module(find_function(arch)(), out, source="pytorch", description={"arch": arch, "arguments": {}})


def tiny_bert(out: Path) -> Checkpoint:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 16}
    module = BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=3, use_cache=False, **size)).eval()
    module.config.save_pretrained(out)
    description = {"class": "BertForSequenceClassification", "attention": None, "remote_code": False}
    return save_module(module, out, source="transformers", description=description)


SENTENCES = """schema: 1
read: {use: npz, path: tokens.npz, inputs: {input_ids: ids, attention_mask: mask}, labels: y}
classes: [bad, fair, good]
"""


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """Forty sentences of up to twelve made-up tokens, as a YAML file."""
    rng = np.random.default_rng(0)
    mask = (np.arange(12) < rng.integers(3, 13, (40, 1))).astype(np.int64)
    np.savez(tmp_path / "tokens.npz", ids=rng.integers(1, 50, (40, 12)) * mask, mask=mask, y=rng.integers(0, 3, 40))
    path = tmp_path / "sentences.yaml"
    path.write_text(SENTENCES, encoding="utf-8")
    return path


@pytest.fixture
def context(name: str, tiny_data: Path, sentences: Path, checkpoint: Checkpoint) -> Context:
    reads = name in TRANSFORMERS
    data = open_dataset(str(sentences) if reads else f"{tiny_data}:calibration", role="training", base=tiny_data.parent)
    return Context(
        example=next(data.batches(1))[0],
        calibration=data,
        training=data,
        task=create(Task, "text_classification" if reads else "image_classification", "task"),
        teacher=lambda: load_module(checkpoint),
    )


def made(work: Pass, checkpoint: Checkpoint, context: Context, out: Path) -> tuple[Improvement, Checkpoint]:
    plan = json.loads(json.dumps(work.plan(load_module(checkpoint), context)))
    better = work.perform(load_module(checkpoint), plan, context)
    plan = plan if better.plan is None else json.loads(json.dumps(better.plan))
    out.mkdir()
    return better, save_improved(better.module, out, given=checkpoint, step=Step(name_of(work), plan))


def test_a_plan_touches_nothing(work: Pass, checkpoint: Checkpoint, context: Context) -> None:
    import torch

    module = load_module(checkpoint)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    json.dumps(work.plan(module, context))
    assert before.keys() == module.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_the_result_comes_back_from_weights_and_plan(work: Pass, checkpoint: Checkpoint, context: Context, tmp_path: Path) -> None:
    better, saved = made(work, checkpoint, context, tmp_path / "out")
    assert not better.module.training
    (_, wanted) = outputs_of(better.module, [context.example])[0]
    (_, found) = outputs_of(load_module(Checkpoint.load(saved.path)), [context.example])[0]
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(wanted[key], found[key]) for key in wanted)
    assert all(np.isfinite(value).all() for value in found.values())


def test_the_same_seed_gives_the_same_bytes(work: Pass, checkpoint: Checkpoint, context: Context, tmp_path: Path) -> None:
    digests = {made(work, checkpoint, context, tmp_path / folder)[1].digest for folder in ("one", "two")}
    assert len(digests) == 1


def test_the_result_exports_and_runs_alike(work: Pass, checkpoint: Checkpoint, context: Context, tmp_path: Path) -> None:
    from edgekit.runner import load

    _, saved = made(work, checkpoint, context, tmp_path / "out")
    (tmp_path / "onnx").mkdir()
    model = create(Exporter, "onnx", "exporters").export(saved, tmp_path / "onnx", context)
    (_, wanted) = outputs_of(load_module(saved), [context.example])[0]
    found = load(model.model, "onnxruntime").run(context.example)
    assert all(np.allclose(wanted[key], found[key], atol=1e-4) for key in wanted)


def test_record_and_notes_are_plain(work: Pass, checkpoint: Checkpoint, context: Context, tmp_path: Path) -> None:
    better, _ = made(work, checkpoint, context, tmp_path / "out")
    assert json.loads(json.dumps(better.record)) == better.record
    assert all(note and "\n" not in note for note in better.notes)


def test_a_teacher_is_asked_for_by_those_that_need_one(
    name: str, work: Pass, checkpoint: Checkpoint, context: Context, tmp_path: Path
) -> None:
    if work.taught_by is None:
        made(work, checkpoint, replace(context, teacher=None), tmp_path / "out")
    assert qualified(work) == f"passes.{name}"
