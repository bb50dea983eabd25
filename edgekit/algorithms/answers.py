"""Quoting answers from passages: which span a network means, and how it compares with those that are right, as SQuAD defines it.

Reference: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (arXiv:1606.05250), and its script.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def best_span(starts: np.ndarray, ends: np.ndarray, allowed: np.ndarray, longest: int) -> tuple[int, int, float]:
    """Find the likeliest span.

    Args:
        starts: score of each token [L] as the first.
        ends: score of each token [L] as the last.
        allowed: whether a token belongs to the passage [L].
        longest: tokens of a span at most.

    Returns:
        First and last token and the sum of their scores; -1, -1 and minus infinity where no token is allowed.
    """
    if not allowed.any():
        return -1, -1, -np.inf
    first = np.where(allowed, starts, -np.inf)[:, None]
    last = np.where(allowed, ends, -np.inf)[None, :]
    distance = np.arange(len(ends))[None, :] - np.arange(len(starts))[:, None]
    scores = np.where((distance >= 0) & (distance < longest), first + last, -np.inf)
    place = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(place[0]), int(place[1]), float(scores[place])


def exact(answer: str, right: Sequence[str]) -> float:
    """One where the answer is one of those that are right, but for case, punctuation and articles; no answer is right where none is."""
    return float(any(_words(answer) == _words(one) for one in right or ("",)))


def f1(answer: str, right: Sequence[str]) -> float:
    """The best F1 of the answer's words against those of an answer that is right."""
    return max(_overlap(_words(answer), _words(one)) for one in right or ("",))


def _overlap(mine: list[str], theirs: list[str]) -> float:
    if not mine or not theirs:
        return float(mine == theirs)
    shared = sum((Counter(mine) & Counter(theirs)).values())
    return 2 * shared / (len(mine) + len(theirs))


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()
