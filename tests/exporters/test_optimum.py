from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.artifacts import Checkpoint, Step
from edgekit.core.errors import ExportError, MissingPackageError, RecipeError
from edgekit.core.modules import outputs_of
from edgekit.core.plugin import Context, Exporter, Source
from edgekit.core.registry import create
from edgekit.runner import load

CONTEXT = Context(example={})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    import torch
    import transformers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    transformers.BertForSequenceClassification(config).save_pretrained(folder / "saved")
    (folder / "checkpoint").mkdir()
    return create(Source, {"use": "transformers", "path": str(folder / "saved")}, "model").fetch(folder / "checkpoint", CONTEXT)


def optimum(*packages: str) -> Exporter:
    return create(Exporter, {"use": "optimum", **({"environment": packages} if packages else {})}, "exporters")


def test_what_went_through_passes_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    changed = replace(checkpoint, steps=(Step("prune", {}),))
    with pytest.raises(ExportError, match="went through passes"):
        optimum().export(changed, tmp_path, CONTEXT)


def test_a_model_of_another_source_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a model of source pytorch"):
        optimum().export(replace(checkpoint, source="pytorch"), tmp_path, CONTEXT)


def test_an_exporter_of_another_format_is_refused() -> None:
    from edgekit.candidates import plan_candidates
    from edgekit.core.plugin import Task
    from edgekit.core.recipe import Recipe
    from edgekit.core.schema import parse
    from edgekit.core.target import load_target

    content = {"schema": 1, "model": "m", "data": "digits", "exporters": {"tflite": "optimum"}}
    with pytest.raises(RecipeError, match="'optimum' does not write 'tflite'"):
        plan_candidates(parse(Recipe, content, "r"), [load_target("x86-avx2")], create(Task, "generic", "task"), measurable=[True])


@pytest.mark.slow
def test_packages_that_can_not_be_had_are_named(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(MissingPackageError, match=r"pip can't install optimum-onnx==0\.0\.0"):
        optimum("optimum-onnx==0.0.0").export(checkpoint, tmp_path, CONTEXT)


@pytest.mark.slow
def test_a_bert_of_optimum_computes_what_the_module_computes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = optimum().export(checkpoint, tmp_path, CONTEXT)
    assert [path.name for path in made.files] == ["model.onnx"]
    ids = np.random.default_rng(0).integers(1, 50, (2, 7))
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    ((_, wanted),) = outputs_of(_module(checkpoint), [given])
    assert {spec.name for spec in made.inputs} == set(given)
    np.testing.assert_allclose(load(made.model, "onnxruntime").run(given)["logits"], wanted["logits"], atol=1e-5)


def _module(checkpoint: Checkpoint):
    from edgekit.core.modules import load_module

    return load_module(checkpoint)
