"""The stories260K Llama, read from llama2.c's files, is the model that the data's manifest describes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks import make_stories260k
from benchmarks.models.stories260k import BOS, Tokenizer, read_model
from benchmarks.stories260k import greedy
from edgekit.core.artifacts import Batch
from edgekit.core.plugin import Context, Source, Task
from edgekit.core.registry import create
from edgekit.data import Role, check_disjoint, open_dataset

SAID = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. "
    "She wanted to play with it, but it was too hig"
)


def test_the_best_pair_is_merged_first_and_unknown_characters_become_bytes(tmp_path: Path) -> None:
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(256)), b" ", b"a", b"b", b" a", b"ab", b" ab"]
    scores = {b" a": -1.0, b"ab": -0.5, b" ab": -2.0}
    body = b"".join(struct.pack("<fi", scores.get(token, 0.0), len(token)) + token for token in tokens)
    (tmp_path / "tok.bin").write_bytes(struct.pack("<i", 7) + body)
    tokenizer = Tokenizer.read(tmp_path / "tok.bin")
    assert tokenizer.tokens == tuple(tokens)
    assert [tokenizer.tokens[n] for n in tokenizer.encode("ab")[1:]] == [b" ab"]
    assert [tokenizer.tokens[n] for n in tokenizer.encode("aab")[1:]] == [b" a", b"ab"]
    assert tokenizer.encode("é")[0] == BOS
    assert tokenizer.decode(tokenizer.encode("é ab")) == "é ab"


@pytest.mark.slow
def test_perplexity_and_text_are_those_of_the_manifest(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(make_stories260k, "STORIES", {"calibration": 2, "training": 3})
    make_stories260k.make(data / "text", tmp_path / "stories")
    roles: tuple[Role, ...] = ("calibration", "training", "evaluation")
    sets = {role: open_dataset(f"{tmp_path}/stories/texts.yaml", role=role, base=tmp_path) for role in roles}
    for role in roles[:2]:
        check_disjoint(sets[role], sets["evaluation"])
    assert [len(data_set) for data_set in sets.values()] == [2, 3, 5]
    (tmp_path / "out").mkdir()
    source = create(Source, {"use": "transformers", "path": str(tmp_path / "stories")}, "model")
    source.fetch(tmp_path / "out", Context(example={}))
    model = read_model(data / "text" / "stories260K.bin")
    task = create(Task, "causal_lm", "task")

    def scores(inputs: Batch) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits)

    rows = [task.observe({"logits": scores(inputs)}, labels, {}) for inputs, labels in sets["evaluation"].batches(1)]
    observed = np.concatenate(rows)
    assert observed[:, 1].sum() == 1804
    assert task.metrics(observed)["perplexity"] == pytest.approx(3.548, abs=5e-4)
    tokenizer = Tokenizer.read(data / "text" / "tok512.bin")
    assert tokenizer.decode(greedy(tokenizer.encode("Once upon a time"), scores)).startswith(SAID)
