"""Tasks that judge written texts: tokens become texts, texts become counts, counts become the field's metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.datasets import Reference
from edgekit.core.errors import DataError
from edgekit.tasks.summarization import Summarization
from edgekit.tasks.transcription import Transcription
from edgekit.tasks.translation import Translation

TOKENS = {"tokens": np.array([[5, 6, 7, 8, 9, 0, 0], [5, 6, 7, 11, 0, 0, 0]])}
RIGHT = [np.array([5, 6, 7, 8, 9, 10, -100]), np.array([5, 6, 7, 8, -100, -100, -100])]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Words of a tiny vocabulary, one a token; 0 is padding."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<s>", "</s>", "a", "the", "cat", "sat", "down", "here", "now", "up"]
    made = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>").save_pretrained(
        tmp_path
    )
    return tmp_path


def test_without_a_tokenizer_tokens_are_words() -> None:
    metrics = Summarization(special=(0,)).metrics(Summarization(special=(0,)).observe(TOKENS, RIGHT, TOKENS))
    assert metrics["rouge1"] == pytest.approx(100 * (10 / 11 + 6 / 8) / 2)
    assert metrics["rouge2"] == pytest.approx(100 * (8 / 9 + 4 / 6) / 2)


def test_translations_are_judged_as_texts_by_the_whole_set(tokenizer: Path) -> None:
    from sacrebleu.metrics import BLEU, CHRF

    task = Translation(tokenizer=str(tokenizer))
    labels = [Reference(("the cat sat down here now",)), ("the cat sat down", "the cat sat up today")]
    metrics = task.metrics(task.observe(TOKENS, labels, TOKENS))
    written = ["the cat sat down here", "the cat sat up"]
    streams = [["the cat sat down here now", "the cat sat down"], ["the cat sat down here now", "the cat sat up today"]]
    assert metrics["bleu"] == pytest.approx(BLEU().corpus_score(written, streams).score)
    assert metrics["chrf"] == pytest.approx(CHRF().corpus_score(written, streams).score)


def test_error_rates_are_of_all_words_together() -> None:
    task = Transcription(special=(0,))
    metrics = task.metrics(task.observe(TOKENS, RIGHT, TOKENS))
    assert metrics["wer"] == pytest.approx(100 * 2 / 10)
    assert metrics["word_accuracy"] == pytest.approx(80)
    worse = {"tokens": np.full((2, 7), 50)}
    assert task.metrics(task.observe(worse, RIGHT, TOKENS))["word_accuracy"] == 0
    spoken = Transcription().counts("Hello,  world!", ["hello world"])
    assert spoken.tolist() == [0, 2, 0, 11]
    assert Transcription(compare="as written").counts("Hello, world!", ["hello world"])[0] == 2


def test_a_changed_text_is_a_changed_prediction_and_likely_lost() -> None:
    task = Translation(special=(0,))
    other = {"tokens": TOKENS["tokens"].copy()}
    other["tokens"][1, 3] = 12
    first, second = (task.predictions(task.observe(outputs, RIGHT, TOKENS)) for outputs in (TOKENS, other))
    assert (first == second).tolist() == [True, False]
    np.testing.assert_allclose(task.likely_losses(other, TOKENS), [0, 100 / 7])


@pytest.mark.parametrize(
    ("outputs", "labels", "said"),
    [
        ({"logits": np.zeros((2, 7))}, RIGHT, "no output 'tokens'"),
        ({"tokens": np.zeros((2, 7), np.float32)}, RIGHT, "written texts are whole numbers"),
        (TOKENS, RIGHT[:1], "written texts are whole numbers"),
        (TOKENS, [None, None], "compared with texts or tokens"),
        (TOKENS, [0.5, 0.5], "compared with texts or tokens"),
    ],
)
def test_outputs_and_labels_that_do_not_fit_are_told(outputs: dict[str, np.ndarray], labels: list[object], said: str) -> None:
    with pytest.raises(DataError, match=said) as problem:
        Translation().observe(outputs, labels, outputs)
    assert problem.value.hint


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the tokenizer can't be loaded"):
        Translation(tokenizer=str(tmp_path / "none")).observe(TOKENS, RIGHT, TOKENS)
