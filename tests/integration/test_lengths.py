"""Texts of any length: dynamic in ONNX and OpenVINO, a few fixed lengths in one TFLite file; padding changes no result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import compress
from edgekit.core import tflite_model
from edgekit.core.artifacts import Artifact, Batch
from edgekit.core.errors import ExportError, HostError
from edgekit.core.plugin import Context, Exporter, RuntimeSettings
from edgekit.core.registry import create
from edgekit.core.report import Report
from edgekit.sessions import open_session

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijkl"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, max_position_embeddings=32
    )
    config.initializer_range = 0.3
    return transformers.BertForTokenClassification(config).eval()


def pooled(model: Any) -> Any:
    """A model like it whose outputs have one size, as judging needs."""
    import transformers

    made = transformers.BertForSequenceClassification(model.config)
    made.bert.load_state_dict(model.bert.state_dict(), strict=False)
    return made.eval()


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a tokenizer and texts of 1 to 11 words."""
    import transformers

    path = tmp_path_factory.mktemp("bert")
    pooled(model).save_pretrained(path)
    transformers.BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(path)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefghijkl"), 3 + i % 9)) for i in range(30)]
    (path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    (path / "set.yaml").write_text(
        "schema: 1\nread: {use: text, path: texts.jsonl, text: text}\n"
        "tokenize: {tokenizer: model, length: 16, padding: longest, buckets: [8], inputs: [input_ids, attention_mask]}\n"
        "splits: {calibration: {rows: [0, 11]}, evaluation: {rows: [11, 30]}}\n",
        encoding="utf-8",
    )
    return path


def batch(length: int) -> Batch:
    ids = np.random.default_rng(length).integers(5, len(WORDS), (1, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def wanted(model: Any, given: Batch) -> np.ndarray:
    import torch

    with torch.no_grad():
        result: np.ndarray = model(**{name: torch.from_numpy(array) for name, array in given.items()}).logits.numpy()
    return result


def context() -> Context:
    axes = {1: "sequence"}
    return Context(example=batch(6), dynamic={"input_ids": axes, "attention_mask": axes}, lengths=(8, 16))


@pytest.fixture(scope="module")
def flatbuffer(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return create(Exporter, "tflite", "x").write(model, tmp_path_factory.mktemp("lite"), context())


@pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])
def test_every_length_gives_what_the_module_gives(name: str, model: Any, flatbuffer: Artifact, tmp_path: Path) -> None:
    made = flatbuffer if name == "tflite" else create(Exporter, name, "x").write(model, tmp_path, context())
    assert {spec.shape[1] for spec in (*made.inputs, *made.outputs)} & {6, 8, 16} == set()
    runtime = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "litert"}[name]
    with open_session(made.model, runtime, RuntimeSettings(), fresh=False) as session:
        for length in (2, 8, 11, 16):
            given = batch(length)
            (result,) = session.run(given).values()
            np.testing.assert_allclose(result, wanted(model, given), atol=1e-5)


def test_the_weights_of_all_lengths_are_stored_once(model: Any, flatbuffer: Artifact) -> None:
    weights = sum(p.numel() for p in model.parameters()) * 4
    graphs = tflite_model.read(flatbuffer.model)
    assert [s.signatureKey.decode() for s in graphs.signatureDefs] == ["sequence_16", "sequence_8"]
    stored = sum(len(buffer.data) for buffer in graphs.buffers if buffer.data is not None)
    assert weights <= stored < 1.1 * weights


def test_a_longer_text_than_the_longest_graph_is_refused(flatbuffer: Artifact) -> None:
    with (
        open_session(flatbuffer.model, "litert", RuntimeSettings(), fresh=False) as session,
        pytest.raises(HostError, match="length 17, the longest that the model takes is 16"),
    ):
        session.run(batch(17))


def test_without_a_mask_lengths_are_refused(model: Any, tmp_path: Path) -> None:
    alone = Context(example={"input_ids": batch(6)["input_ids"]}, dynamic={"input_ids": {1: "sequence"}}, lengths=(8, 16))
    with pytest.raises(ExportError, match="padding would change its results"):
        create(Exporter, "tflite", "x").write(model, tmp_path, alone)


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    wishes = {"precisions": ["int8-dynamic"], "formats": ["tflite", "openvino"], "targets": ["raspberry-pi-4"], "budget": {"max_drop": 50}}
    return compress(str(folder), data=str(folder / "set.yaml"), out=tmp_path_factory.mktemp("runs") / "run", **wishes)


def test_texts_of_any_length_are_compressed_and_judged(report: Report) -> None:
    made = {(m.format, m.precision) for m in report.models if m.role != "original"}
    assert made == {("tflite", "fp32"), ("tflite", "int8-dynamic"), ("openvino", "fp32")}
    assert all(m.accuracy.metrics["cosine"] > 99 for m in report.models if m.accuracy)


def test_the_report_tells_the_lengths(report: Report) -> None:
    notes = {m.format: m.notes for m in report.models if m.role == "export"}
    assert "graphs for lengths 8, 16; the runner pads to the smallest that fits" in notes["tflite"]
    assert "takes any length of input_ids, attention_mask" in notes["openvino"]
