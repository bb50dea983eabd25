"""The overlap of texts, against the implementations that the field compares figures by."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms import text_overlap as overlap

WORDS = 'the cat sat on a mat, 3.5 dogs (and one well-known bird) didn\'t sing; "why?" she asked & left - at 10,000 m.'
PAIRS = [
    ("The cat sat on the mat.", ["The cat is on the mat.", "There is a cat on the mat."]),
    ("completely different", ["nothing alike here at all"]),
    ("a", ["a"]),
    ("", ["something"]),
    ("It costs 3,500.75 dollars &amp; more", ["It costs 3,500.75 dollars & more!"]),
]


def drawn(count: int) -> list[tuple[str, list[str]]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        reference = [str(word) for word in rng.choice(WORDS.split(), rng.integers(3, 15))]
        written = [str(rng.choice(WORDS.split())) if rng.random() < 0.3 else word for word in reference[: rng.integers(2, 15)]]
        made.append((" ".join(written), [" ".join(reference)]))
    return made


@pytest.mark.parametrize("texts", [drawn(40), drawn(3), *[[pair] for pair in PAIRS]])
def test_bleu_and_chrf_are_those_of_sacrebleu(texts: list[tuple[str, list[str]]]) -> None:
    from sacrebleu.metrics import BLEU, CHRF

    written = [pair[0] for pair in texts]
    streams = [[pair[1][i] for pair in texts] for i in range(len(texts[0][1]))]
    bleu = overlap.bleu(sum(overlap.bleu_counts(*pair) for pair in texts))
    assert bleu == pytest.approx(BLEU().corpus_score(written, streams).score, abs=1e-6)
    chrf = overlap.chrf(sum(overlap.chrf_counts(*pair) for pair in texts))
    assert chrf == pytest.approx(CHRF().corpus_score(written, streams).score, abs=1e-6)


@pytest.mark.parametrize("pair", [*drawn(30), *PAIRS])
def test_rouge_is_that_of_rouge_score(pair: tuple[str, list[str]]) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    wanted = [RougeScorer(kinds).score(reference, pair[0]) for reference in pair[1]]
    best = [max(100 * scores[kind].fmeasure for scores in wanted) for kind in kinds]
    np.testing.assert_allclose(overlap.rouge(*pair), best, atol=1e-9)


def test_longest_common_subsequence_may_skip() -> None:
    assert overlap.longest_common("axbycz", "abc") == 3
    assert overlap.longest_common("abc", "cba") == 1


@pytest.mark.parametrize(
    ("one", "other", "count"), [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ab", "ba", 2)]
)
def test_edits_are_the_fewest(one: str, other: str, count: int) -> None:
    assert overlap.edits(one, other) == count
