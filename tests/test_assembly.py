"""Models of several graphs go through a whole run as one model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit import assembly
from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.datasets import DataSet
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Context, Exporter, Quantizer, Source
from edgekit.core.registry import create
from edgekit.data import open_dataset
from edgekit.parts.decoder import Decoder

PARTS = Decoder(read_at_once=4, new_tokens=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with texts."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=40, n_embd=32, n_layer=1, n_head=2, n_positions=24, initializer_range=0.3, bos_token_id=1, eos_token_id=2
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    rng = np.random.default_rng(0)
    ids, mask = rng.integers(3, 40, (24, 10)), (np.arange(10) < rng.integers(6, 11, (24, 1))).astype(np.int64)
    np.savez(folder / "texts.npz", ids=ids, mask=mask, labels=np.where(mask == 1, ids, -100))
    (folder / "texts.yaml").write_text(
        "schema: 1\nread: {use: npz, path: texts.npz, inputs: {input_ids: ids, attention_mask: mask}, labels: labels}\n"
        "splits: {calibration: {rows: [0, 8]}, evaluation: {rows: [8, 24]}}\n"
    )
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    source = create(Source, {"use": "transformers", "path": str(folder), "auto_class": "AutoModelForCausalLM"}, "model")
    return source.fetch(tmp_path_factory.mktemp("checkpoint"), Context(example={}))


@pytest.fixture(scope="module")
def texts(folder: Path) -> DataSet:
    return open_dataset(f"{folder}/texts.yaml", role="calibration", base=folder)


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint, texts: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    context = Context(example=next(texts.batches(1))[0])
    return assembly.export(checkpoint, PARTS, create(Exporter, "openvino", "formats"), tmp_path_factory.mktemp("export"), context)


def test_an_artefact_of_several_graphs_is_read_back_as_it_was_described(model: Artifact) -> None:
    again = Artifact.load(model.path)
    assert again == model
    assert (list(again.components), again.format, again.file) == (["prefill", "decode"], "openvino", "model.json")
    assert again.size == sum(part.size for part in again.components.values()) + model.model.stat().st_size
    assert [spec.name for spec in again.inputs] == ["input_ids", "attention_mask"]


def test_each_graph_is_quantized_and_one_plan_tells_of_all(model: Artifact, texts: DataSet, tmp_path: Path) -> None:
    made = assembly.quantize(model, create(Quantizer, "openvino_int8_dynamic", "q"), tmp_path, Context(example={}))
    layers = {layer["layer"]: layer["precision"] for layer in json.loads((tmp_path / "plan.json").read_text())}
    assert {layers["prefill/lm_head"], layers["decode/transformer.h.0.mlp.c_fc"]} == {"int8-dynamic"}
    assert (made.precision, made.inputs) == ("int8-dynamic", model.inputs)
    assert made.size < 0.7 * model.size, "the graphs themselves stay as they are"


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("lm_head", {"prefill/lm_head", "decode/lm_head"}),
        ("decode/lm_head", {"decode/lm_head"}),
        ("*.mlp.c_*", {f"{part}/transformer.h.0.mlp.{layer}" for part in ("prefill", "decode") for layer in ("c_fc", "c_proj")}),
    ],
)
def test_patterns_keep_layers_of_all_components_or_of_one(model: Artifact, pattern: str, kept: set[str], tmp_path: Path) -> None:
    quantizer = create(Quantizer, {"use": "openvino_int8_dynamic", "spec": {"exclude": [pattern]}}, "q")
    assembly.quantize(model, quantizer, tmp_path, Context(example={}))
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert {layer["layer"] for layer in plan if layer["reason"] == "excluded by the recipe"} == kept


def test_a_component_can_stay_as_it_is_and_a_pattern_without_match_is_told(model: Artifact, tmp_path: Path) -> None:
    wish = {"use": "openvino_int8_dynamic", "spec": {"exclude": ["prefill/*"]}}
    made = assembly.quantize(model, create(Quantizer, wish, "q"), tmp_path, Context(example={}))
    assert [part.precision for part in made.components.values()] == ["fp32", "int8-dynamic"]
    assert made.components["prefill"].digest == model.components["prefill"].digest
    (tmp_path / "other").mkdir()
    wish["spec"] = {"exclude": ["prefil/*"]}
    with pytest.raises(QuantizationError, match="'prefil/\\*' matches no layer of any component") as caught:
        assembly.quantize(model, create(Quantizer, wish, "q"), tmp_path / "other", Context(example={}))
    assert "prefill, decode" in caught.value.hint


def test_a_component_is_calibrated_on_what_the_program_calls_it_with(model: Artifact, texts: DataSet) -> None:
    calls = assembly.Calls(model, "decode", texts)
    seen = [inputs for inputs, _ in calls.batches(1)]
    assert len(seen) == len(calls) == 8
    texts_seen = [inputs for inputs, _ in texts.batches(1)]
    for call, text in zip(seen, texts_seen, strict=True):
        place = int(call["position"][0])
        assert 4 <= place < text["attention_mask"].sum()
        assert call["input_ids"][0, 0] == text["input_ids"][0, place]
        assert call["key_0"][:, :place].all()
        assert not call["key_0"][:, place:].any()
    assert len({int(call["position"][0]) for call in seen}) > 2
    assert all(np.array_equal(a["key_0"], b["key_0"]) for a, (b, _) in zip(seen, calls.batches(1), strict=True))


def test_a_run_judges_writes_and_delivers_it_as_one_model(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"schema: 1\nmodel: {folder}\ntask: causal_lm\nparts: {{use: decoder, read_at_once: 4, new_tokens: 5}}\n"
        f"data: {folder}/texts.yaml\nformats: openvino\nprecisions: [fp32, int8]\n"
        "measure: {rounds: 3, round_seconds: 0.01, resamples: 100}\nbudget: {max_drop: 50}\n"
    )
    report = edgekit.compress(tmp_path / "recipe.yaml", out=tmp_path / "out")
    assert [model.role for model in report.models] == ["original", "export", "candidate"]
    export, candidate = report.models[1:]
    assert export.accuracy
    assert export.accuracy.change.value == pytest.approx(0, abs=0.01)
    for model in report.models:
        assert model.generation
        assert (model.generation.prompt, model.generation.new_tokens) == (4, 5)
        assert model.generation.tokens_per_second
        assert model.generation.tokens_per_second.value > 0
    assert export.generation
    assert export.generation.same_tokens == 100
    assert any(note.startswith("writes ") and "(4 read, 5 written" in note for note in candidate.notes)
    assert candidate.layers["int8-static"] > 4
    assert report.targets[0].command is None
    delivered = tmp_path / "out" / "host"
    assert (delivered / "model.json").is_file()
    assert (delivered / "decode" / "model.bin").is_file()
    assert not list(delivered.rglob("artifact.json"))
    raced = edgekit.benchmark([delivered / "model.json"], data=f"{folder}/texts.yaml", rounds=3)
    assert raced.models[0].format == "openvino"
    assert raced.models[0].size
    assert raced.models[0].size.raw == sum(path.stat().st_size for path in delivered.rglob("model.*"))
