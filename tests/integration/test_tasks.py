"""Tasks whose labels lie on tokens or on time, the whole way: checkpoint, int8, and the metric that transformers' own outputs give."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgekit import compress
from edgekit.core.report import Report

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijkl"]
LENGTH = 12
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS[5:], 3 + i % 6)) for i in range(30)]
JUDGED = TEXTS[10:]


def bert(head: str, folder: Path, **options: Any) -> Any:
    """A small BERT with random weights that makes up its mind, saved with its tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, **options
    )
    config.initializer_range = 0.3
    model = getattr(transformers, head)(config).eval()
    model.save_pretrained(folder)
    transformers.BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
    return model


def outputs(model: Any, folder: Path, texts: list[str], pairs: list[str] | None = None) -> Any:
    import torch
    import transformers

    encode = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model(**encode(texts, pairs, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"))


def run(folder: Path, rows: list[dict[str, Any]], task: Any, labels: str, **read: str) -> Report:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    described = {
        "schema": 1,
        "read": {"use": "text", "path": "rows.jsonl", "text": "text", "label": "label", **read},
        "tokenize": {"tokenizer": "model", "length": LENGTH, "labels": labels},
        "splits": {"calibration": {"rows": [0, 10]}, "evaluation": {"rows": [10, 30]}},
    }
    if labels == "words":
        described["classes"] = list(TAGS)
    (folder / "set.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    return compressed(folder, task, folder)


def compressed(folder: Path, task: Any, model: Path | dict[str, Any]) -> Report:
    content = {
        "schema": 1,
        "model": {"path": str(model)} if isinstance(model, Path) else model,
        "task": task,
        "data": "set.yaml",
        "formats": ["onnx"],
        "precisions": ["int8"],
        "budget": {"max_drop": 100},
        "measure": {"rounds": 3, "round_seconds": 0.01, "resamples": 100},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return compress(folder / "recipe.yaml", out=folder / "run")


def accuracies(report: Report, metric: str) -> tuple[float, list[float]]:
    """The original's figure and those of the int8 models; every float export must have the original's."""
    found: dict[str, list[float]] = {}
    for model in report.models:
        assert model.accuracy.primary == metric
        found.setdefault(model.role, []).append(model.accuracy.metrics[metric])
    (original,) = found["original"]
    assert found["export"] == pytest.approx([original], abs=1e-4)
    return original, found["candidate"]


TAGS = ("O", "B-X", "I-X")


def test_named_entities(tmp_path: Path) -> None:
    from seqeval.metrics import f1_score

    model = bert("BertForTokenClassification", tmp_path, num_labels=3)
    given = [[str(tag) for tag in np.random.default_rng(i).choice(TAGS, len(text.split()))] for i, text in enumerate(TEXTS)]
    rows = [{"text": text, "label": tags} for text, tags in zip(TEXTS, given, strict=True)]
    report = run(tmp_path, rows, {"use": "token_classification", "tags": list(TAGS)}, "words")
    best = outputs(model, tmp_path, JUDGED).logits.argmax(-1).numpy()
    found = [[TAGS[tag] for tag in row[1 : 1 + len(text.split())]] for row, text in zip(best, JUDGED, strict=True)]
    original, made = accuracies(report, "entity_f1")
    assert original == pytest.approx(100 * f1_score(given[10:], found))
    assert all(0 < value < 100 for value in made)


def test_extractive_answers(tmp_path: Path) -> None:
    model = bert("BertForQuestionAnswering", tmp_path)
    rows = [{"text": text.split()[0], "pair": text, "label": [text.split()[1]]} for text in TEXTS]
    report = run(tmp_path, rows, "question_answering", "answers", pair="pair")
    made = outputs(model, tmp_path, [row["text"] for row in rows[10:]], [row["pair"] for row in rows[10:]])
    exact = []
    for start, end, row in zip(made.start_logits, made.end_logits, rows[10:], strict=True):
        words = row["pair"].split()
        scores = {(i, j): float(start[3 + i] + end[3 + j]) for i in range(len(words)) for j in range(i, len(words))}
        first, last = max(scores, key=lambda span: scores[span])
        exact.append(" ".join(words[first : last + 1]) == row["label"][0])
    original, int8 = accuracies(report, "f1")
    assert report.models[0].accuracy.metrics["exact_match"] == pytest.approx(100 * np.mean(exact))
    assert all(0 <= value <= 100 for value in int8)
    assert original > 0


@pytest.fixture
def gaps(tmp_path: Path) -> Callable[[], Report]:
    """Texts whose second word is a gap, read by a loader."""
    code = f"""
import numpy as np
WORDS = {WORDS!r}
TEXTS = {TEXTS!r}

def texts():
    made = []
    for text in TEXTS:
        ids = [2, *(WORDS.index(word) for word in text.split()), 3]
        labels = np.full({LENGTH}, -100)
        labels[2], ids[2] = ids[2], 4
        padded = np.zeros({LENGTH}, np.int64)
        padded[: len(ids)] = ids
        made.append(({{"input_ids": padded, "attention_mask": (padded > 0).astype(np.int64)}}, labels))
    return made
"""
    (tmp_path / "gaps.py").write_text(code, encoding="utf-8")
    described = {
        "schema": 1,
        "read": {"use": "loader", "function": "gaps.py:texts"},
        "splits": {"calibration": {"rows": [0, 10]}, "evaluation": {"rows": [10, 30]}},
    }
    (tmp_path / "set.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    return lambda: compressed(tmp_path, "fill_mask", tmp_path)


def test_gaps_in_a_text(tmp_path: Path, gaps: Callable[[], Report]) -> None:
    model = bert("BertForMaskedLM", tmp_path)
    masked = [" ".join([text.split()[0], "[MASK]", *text.split()[2:]]) for text in JUDGED]
    best = outputs(model, tmp_path, masked).logits[:, 2].argmax(-1).numpy()
    right = [WORDS[token] == text.split()[1] for token, text in zip(best, JUDGED, strict=True)]
    original, int8 = accuracies(gaps(), "top1")
    assert original == pytest.approx(100 * np.mean(right))
    assert all(0 <= value <= 100 for value in int8)


def test_speech_read_from_a_ctc_path(tmp_path: Path) -> None:
    import jiwer
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=4, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, conv_dim=(16, 16),
        conv_kernel=(10, 8), conv_stride=(5, 4), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, pad_token_id=0,
    )  # fmt: skip
    model = transformers.Wav2Vec2ForCTC(config).eval()
    model.save_pretrained(tmp_path / "model")
    sounds = np.random.default_rng(0).integers(-9000, 9000, (30, 1600)).astype(np.int16)
    texts = ["".join(np.random.default_rng(i).choice(list("ab "), 6)) for i in range(30)]
    (tmp_path / "sounds").mkdir()
    for number, sound in enumerate(sounds):
        with wave.open(str(tmp_path / "sounds" / f"{number:02}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(sound.tobytes())
    (tmp_path / "texts.tsv").write_text("".join(f"{n:02}.wav\t{text}\n" for n, text in enumerate(texts)), encoding="utf-8")
    described = {
        "schema": 1,
        "read": {"use": "audio", "path": "sounds", "transcripts": "texts.tsv", "rate": 16000, "seconds": 0.1, "input": "input_values"},
        "splits": {"calibration": {"rows": [0, 10]}, "evaluation": {"rows": [10, 30]}},
    }
    (tmp_path / "set.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    characters = ["", "a", "b", " "]
    report = compressed(tmp_path, {"use": "speech_recognition", "characters": characters}, tmp_path / "model")

    with torch.no_grad():
        paths = model(torch.from_numpy(sounds[10:].astype(np.float32) / 32768)).logits.argmax(-1).numpy()
    written = ["".join(characters[t] for i, t in enumerate(path) if i == 0 or t != path[i - 1]) for path in paths]
    cer = jiwer.cer([" ".join(text.split()) for text in texts[10:]], [" ".join(text.split()) for text in written])
    accuracies(report, "word_accuracy")
    assert report.models[0].accuracy.metrics["cer"] == pytest.approx(100 * cer)
