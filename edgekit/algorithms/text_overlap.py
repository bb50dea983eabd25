"""How much of a reference text a written one has: BLEU, chrF and ROUGE, as counts that can be summed over any draw of texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

BLEU_ORDER = 4
BLEU_COUNTS = 2 * BLEU_ORDER + 2
CHRF_ORDER = 6
CHRF_COUNTS = 3 * CHRF_ORDER
CHRF_BETA = 2

_PUNCTUATION = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def bleu_words(text: str) -> list[str]:
    """Split as the evaluation of WMT does (mteval-v13a), which BLEU figures are compared by."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, spaced in _PUNCTUATION:
        text = pattern.sub(spaced, text)
    return text.split()


def bleu_counts(written: str, references: Sequence[str]) -> np.ndarray:
    """Counts [10] of a text: matching n-grams and all of them for n from 1 to 4, its length and that of the closest reference."""
    words, wanted = bleu_words(written), [bleu_words(reference) for reference in references]
    closest = min((len(reference) for reference in wanted), key=lambda length: (abs(length - len(words)), length))
    matching, total = [], []
    for order in range(1, BLEU_ORDER + 1):
        mine = _ngrams(words, order)
        best: Counter[tuple[Hashable, ...]] = Counter()
        for reference in wanted:
            best |= _ngrams(reference, order)
        matching.append((mine & best).total())
        total.append(mine.total())
    return np.array([*matching, *total, len(words), closest], np.float64)


def bleu(counts: np.ndarray) -> float:
    """BLEU in percent of summed counts [10] (Papineni et al. 2002), smoothed exponentially as sacreBLEU does (arXiv:1804.08771)."""
    matching, total, (length, wanted) = counts[:BLEU_ORDER], counts[BLEU_ORDER : 2 * BLEU_ORDER], counts[2 * BLEU_ORDER :]
    if not matching.any() or not total.all():
        return 0.0
    logs, halved = 0.0, 1.0
    for hits, all_of_them in zip(matching, total, strict=True):
        if not hits:
            halved *= 2
        logs += math.log((hits or 1 / halved) / all_of_them)
    brevity = 1.0 if length >= wanted else math.exp(1 - wanted / length)
    return 100 * brevity * math.exp(logs / BLEU_ORDER)


def chrf_counts(written: str, references: Sequence[str]) -> np.ndarray:
    """Counts [18] of a text: n-grams of its characters, of the best reference's, and matching ones, for n from 1 to 6."""
    return max((_chrf_pair(written, reference) for reference in references), key=chrf)


def _chrf_pair(written: str, reference: str) -> np.ndarray:
    counts = []
    for order in range(1, CHRF_ORDER + 1):
        mine, theirs = (_ngrams("".join(text.split()), order) for text in (written, reference))
        # As in sacreBLEU, n-grams of a text count only where the reference is long enough to have any.
        counts += [mine.total() if theirs else 0, theirs.total(), (mine & theirs).total()]
    return np.array(counts, np.float64)


def chrf(counts: np.ndarray) -> float:
    """ChrF2 in percent of summed counts [18] (Popović 2015): F-score of characters' n-grams, recall counting twice as much."""
    precision = recall = 0.0
    orders = 0
    for mine, theirs, matching in counts.reshape(CHRF_ORDER, 3):
        if mine > 0 and theirs > 0:
            precision += matching / mine
            recall += matching / theirs
            orders += 1
    if not precision + recall:
        return 0.0
    precision, recall = precision / orders, recall / orders
    return float(100 * (1 + CHRF_BETA**2) * precision * recall / (CHRF_BETA**2 * precision + recall))


def rouge_words(text: str) -> list[str]:
    """Split into words of Latin letters and digits, in lower case, as ROUGE's implementations for English do."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def rouge(written: str, references: Sequence[str]) -> np.ndarray:
    """ROUGE-1, -2 and -L [3] in percent (Lin 2004): F-scores of words, pairs and the longest common subsequence, the best reference's."""
    mine = rouge_words(written)
    return np.max([_rouge_pair(mine, rouge_words(reference)) for reference in references], axis=0)  # type: ignore[no-any-return]


def _rouge_pair(mine: list[str], theirs: list[str]) -> np.ndarray:
    scores = []
    for order in (1, 2):
        a, b = _ngrams(mine, order), _ngrams(theirs, order)
        scores.append(_f_score((a & b).total(), a.total(), b.total()))
    scores.append(_f_score(longest_common(mine, theirs), len(mine), len(theirs)))
    return 100 * np.array(scores)


def longest_common(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for one in first:
        before = 0
        for place, other in enumerate(second, start=1):
            before, row[place] = row[place], before + 1 if one == other else max(row[place], row[place - 1])
    return row[-1]


def edits(written: Sequence[Hashable], wanted: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions that turn one sequence into another (Levenshtein 1966)."""
    row = list(range(len(wanted) + 1))
    for number, one in enumerate(written, start=1):
        before, row[0] = row[0], number
        for place, other in enumerate(wanted, start=1):
            before, row[place] = row[place], min(before + (one != other), row[place] + 1, row[place - 1] + 1)
    return row[-1]


def _f_score(matching: int, mine: int, theirs: int) -> float:
    return 2 * matching / (mine + theirs) if matching else 0.0


def _ngrams(items: Sequence[Hashable], order: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(tuple(items[i : i + order]) for i in range(len(items) - order + 1))
