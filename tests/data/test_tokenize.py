from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgekit.core.errors import DataError
from edgekit.data import open_dataset
from edgekit.data._tokenize import Tokenize, _auto, _wordpiece, open_tokenizer, tokenizer_digest

from .conftest import Describe, write_bert

TEXTS = ["A good film!", "very goodly badness , the cafés ungood", "xyzzy " * 30, "", "the  GOOD\tfilm 好 [MASK]"]
PAIRS = ["bad", "", "good " * 20, "very very very", "a"]


def spec(**options: Any) -> Tokenize:
    return Tokenize(**{"length": 12, **options})


def test_ids_masks_and_types(bert_folder: Path) -> None:
    made = open_tokenizer(spec(length=8), bert_folder)(["A good film!", "unGood"], ["bad", "very"])
    np.testing.assert_array_equal(made["input_ids"], [[2, 5, 7, 6, 12, 3, 8, 3], [2, 15, 16, 3, 9, 3, 0, 0]])
    np.testing.assert_array_equal(made["attention_mask"], [[1] * 8, [1] * 6 + [0] * 2])
    np.testing.assert_array_equal(made["token_type_ids"], [[0] * 6 + [1] * 2, [0] * 4 + [1] * 2 + [0] * 2])
    assert {array.dtype for array in made.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("pairs", [None, PAIRS])
@pytest.mark.parametrize("options", [{}, {"padding": "longest"}, {"length": 5}, {"length": 64}])
@pytest.mark.parametrize("config", [{}, {"padding_side": "left", "truncation_side": "left"}, {"tokenizer_class": "DistilBertTokenizer"}])
def test_the_short_way_gives_what_transformers_gives(
    tmp_path: Path, pairs: list[str] | None, options: dict[str, Any], config: dict[str, Any]
) -> None:
    folder = write_bert(tmp_path / "bert", **config)
    short, long = _wordpiece(spec(**options), folder), _auto(spec(**options), folder)
    assert short is not None
    mine, theirs = short(TEXTS, pairs), long(TEXTS, pairs)
    assert set(mine) == set(theirs)
    for name, values in theirs.items():
        np.testing.assert_array_equal(mine[name], values, err_msg=name)


@pytest.mark.parametrize(
    "config",
    [
        {"do_lower_case": False},
        {"strip_accents": True},
        {"tokenizer_class": "RobertaTokenizer"},
        {"pad_token": "[NO]"},
        {"unk_token": "[MASK]"},
    ],
)
def test_files_that_disagree_go_the_long_way(tmp_path: Path, config: dict[str, Any]) -> None:
    assert _wordpiece(spec(), write_bert(tmp_path / "bert", **config)) is None


def test_a_case_that_disagrees_follows_transformers(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert", do_lower_case=False)
    made = open_tokenizer(spec(length=5), folder)(["good GOOD"], None)
    np.testing.assert_array_equal(made["input_ids"], [[2, 7, 1, 3, 0]])


def test_the_short_way_imports_no_transformers(bert_folder: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from edgekit.data._tokenize import Tokenize, open_tokenizer;"
        f"open_tokenizer(Tokenize(length=8), Path({str(bert_folder)!r}))(['good'], None);"
        "print([m for m in ('transformers', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_unknown_inputs_name_the_nearest(bert_folder: Path) -> None:
    with pytest.raises(DataError, match=r"makes no 'input_id'.*did you mean 'input_ids'"):
        open_tokenizer(spec(inputs=("input_id",)), bert_folder)


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert", tokenizer_class="PreTrainedTokenizerFast")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(DataError, match="no padding token"):
        open_tokenizer(spec(), folder)


def test_damaged_tokenizers_are_refused(bert_folder: Path) -> None:
    (bert_folder / "tokenizer.json").write_text('{"model": ', encoding="utf-8")
    with pytest.raises(DataError, match="the tokenizer can't be loaded"):
        open_tokenizer(spec(), bert_folder)


def test_the_digest_follows_the_files(tmp_path: Path) -> None:
    digests = {
        tokenizer_digest(write_bert(tmp_path / name, **config)) for name, config in (("a", {}), ("b", {}), ("c", {"padding_side": "left"}))
    }
    assert len(digests) == 2


def test_a_set_uses_the_models_own_tokenizer(tmp_path: Path, describe: Describe, bert_folder: Path) -> None:
    (tmp_path / "a.tsv").write_text("a film\tgood\t1\nbad\tbad\t0\n", encoding="utf-8")
    reference = describe(read={"use": "text", "path": "a.tsv", "text": 0, "pair": 1, "label": 2}, tokenize={"length": 7})
    for model in (bert_folder, bert_folder / "config.json"):
        batch, labels = next(open_dataset(reference, role="evaluation", base=tmp_path, model=model).batches(2))
        np.testing.assert_array_equal(batch["input_ids"], [[2, 5, 6, 3, 7, 3, 0], [2, 8, 3, 8, 3, 0, 0]])
        assert labels == [1, 0]
    with pytest.raises(DataError, match="tokenizer: model needs a model's folder"):
        open_dataset(reference, role="evaluation", base=tmp_path)
    with pytest.raises(DataError, match="holds no tokenizer"):
        open_dataset(reference, role="evaluation", base=tmp_path, model=tmp_path)


def test_a_set_may_name_its_tokenizer_and_pad_to_the_longest(tmp_path: Path, describe: Describe, bert_folder: Path) -> None:
    (tmp_path / "a.tsv").write_text("good\nvery good film\nbad\n", encoding="utf-8")
    read = {"use": "text", "path": "a.tsv", "text": 0}
    reference = describe(read=read, tokenize={"tokenizer": "bert", "length": 64, "padding": "longest", "inputs": ["input_ids"]})
    shapes = [{k: v.shape for k, v in batch.items()} for batch, _ in open_dataset(reference, role="evaluation", base=tmp_path).batches(2)]
    assert shapes == [{"input_ids": (2, 5)}, {"input_ids": (1, 3)}]


def test_texts_without_a_tokenizer_are_refused(tmp_path: Path, describe: Describe) -> None:
    (tmp_path / "a.tsv").write_text("good\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds texts, a model takes numbers"):
        next(open_dataset(describe(read={"use": "text", "path": "a.tsv", "text": 0}), role="evaluation", base=tmp_path).batches())


@pytest.mark.parametrize("options", [{"length": 1}, {"padding": "shortest"}, {"fields": {}}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**options)


@pytest.mark.slow
def test_real_texts_through_the_real_vocabulary(tmp_path: Path, data: Path) -> None:
    """Every SST-2 sentence and AG News article, cut and padded, by both ways."""
    import csv

    from transformers import BertTokenizer

    vocabulary = {
        word: i for i, word in enumerate((data / "text/bert_base_uncased_vocab.txt").read_text(encoding="utf-8").split("\n")) if word
    }
    BertTokenizer(vocab=vocabulary).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with (data / "text/agnews_6000.csv").open(encoding="utf-8", newline="") as stream:
        articles = [row[1:] for row in csv.reader(stream)]
    sentences = [line.split("\t")[0] for line in (data / "text/sst2_dev.tsv").read_text(encoding="utf-8").splitlines()]
    short, long = _wordpiece(spec(length=64), tmp_path / "bert"), _auto(spec(length=64), tmp_path / "bert")
    assert short is not None
    for texts, pairs in ((sentences, None), ([title for title, _ in articles], [body for _, body in articles])):
        mine, theirs = short(texts, pairs), long(texts, pairs)
        assert {name: array.shape for name, array in mine.items()} == {name: (len(texts), 64) for name in theirs}
        for name, values in theirs.items():
            np.testing.assert_array_equal(mine[name], values)
