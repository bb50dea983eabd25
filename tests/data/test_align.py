"""Answers and tags, laid over the tokens of a small BERT tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.datasets import Answers
from edgekit.core.errors import DataError
from edgekit.data import open_dataset
from edgekit.data._align import open_spans, tags
from edgekit.data._tokenize import Tokenize

from .conftest import Describe


def opened(tmp_path: Path, describe: Describe, folder: Path, rows: list[dict[str, Any]], labels: str, **content: Any) -> Any:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read = {"use": "text", "path": "rows.jsonl", "text": "text", "label": "label"} | ({"pair": "pair"} if "pair" in rows[0] else {})
    tokenize = {"tokenizer": str(folder), "length": 12, "labels": labels, **content.pop("tokenize", {})}
    return open_dataset(describe(read=read, tokenize=tokenize, **content), role="evaluation", base=tmp_path)


def test_tokens_of_the_second_text_know_their_characters(tmp_path: Path, describe: Describe, bert_folder: Path) -> None:
    rows = [
        {"text": "very good", "pair": "the  goodness!", "label": ["goodness"]},
        {"text": "bad", "pair": "a film", "label": {"text": [], "answer_start": []}},
    ]
    inputs, (first, second) = next(opened(tmp_path, describe, bert_folder, rows, "answers").batches(2))
    assert isinstance(first, Answers)
    assert (first.texts, first.passage, second.texts) == (("goodness",), "the  goodness!", ())
    assert first.spans.shape == (inputs["input_ids"].shape[1], 2) == (12, 2)
    covered = [first.passage[begin:end] for begin, end in first.spans if begin >= 0]
    assert covered == ["the", "good", "ness", "!"]
    assert (first.spans[:4] == -1).all()  # [CLS] very good [SEP]


def test_a_words_tag_stands_at_its_first_token(tmp_path: Path, describe: Describe, bert_folder: Path) -> None:
    rows = [{"text": "goodness , very badly", "label": ["B-X", "O", "O", "I-X"]}, {"text": "a film", "label": "O B-X"}]
    data = opened(tmp_path, describe, bert_folder, rows, "words", classes=["O", "B-X", "I-X"], tokenize={"padding": "longest"})
    _, (first, second) = next(data.batches(2))
    assert first.tolist() == [-100, 1, -100, 0, 0, 2, -100, -100]
    assert second.tolist() == [-100, 0, 1, -100, -100, -100, -100, -100]
    assert [label.tolist() for _, labels in data.shuffled(1, 0) for label in labels] in (
        [first.tolist(), second[:4].tolist()],
        [second[:4].tolist(), first.tolist()],
    )


def test_padding_in_front_moves_the_tags_along(tmp_path: Path, describe: Describe, bert_folder: Path) -> None:
    config = json.loads((bert_folder / "tokenizer_config.json").read_text())
    (bert_folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}))
    data = opened(tmp_path, describe, bert_folder, [{"text": "a film", "label": "O B-X"}], "words", classes=["O", "B-X"])
    inputs, (found,) = next(data.batches())
    assert found.tolist() == [-100] * 9 + [0, 1, -100]
    assert (inputs["attention_mask"][0] == [0] * 8 + [1] * 4).all()


def test_a_token_that_begins_with_the_space_before_a_word_bears_that_words_tag() -> None:
    """As byte-level tokenizers cut texts that don't trim their offsets: GPT-2's, say."""
    text = "John lives in  Paris"
    spans = np.array([[0, 4], [4, 10], [10, 13], [13, 14], [14, 18], [18, 20], [-1, -1]])
    found = tags("B-PER O O B-LOC", text, spans, ["O", "B-PER", "B-LOC"].index, "here")
    assert found.tolist() == [1, 0, 0, -100, 2, -100, -100]


@pytest.mark.parametrize(
    ("row", "labels", "message"),
    [
        ({"text": "a film", "label": ["O"]}, "words", "sample 0 has 1 tags for 2 words"),
        ({"text": "a film", "label": 3}, "words", "sample 0 has 3 for 2 words"),
        ({"text": "a film", "label": ["O", "B-Y"]}, "words", "'B-Y', which is no class"),
        ({"text": "a", "pair": "film", "label": 3}, "answers", "sample 0 has answers 3"),
    ],
)
def test_labels_that_do_not_fit(
    tmp_path: Path, describe: Describe, bert_folder: Path, row: dict[str, Any], labels: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        next(opened(tmp_path, describe, bert_folder, [row], labels, classes=["O", "B-X"] if labels == "words" else []).batches())


def test_a_tokenizer_that_can_not_tell_is_refused(tmp_path: Path, describe: Describe, bert_folder: Path) -> None:
    data = opened(tmp_path, describe, bert_folder, [{"text": "a", "pair": "film", "label": "film"}], "answers")
    np.testing.assert_equal(np.asarray(next(data.batches())[1][0].spans[3]), [0, 4])
    (bert_folder / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json can't be read"):
        open_spans(Tokenize(length=12), bert_folder)
