"""Named entities in sequences of tags, by the rules of the CoNLL shared task, as seqeval has them.

Reference: Tjong Kim Sang and Buchholz 2000, "Introduction to the CoNLL-2000 Shared Task: Chunking", and its conlleval.
"""

from __future__ import annotations

from collections.abc import Sequence

Entity = tuple[str, int, int]
"""Type, first and last place."""
OUTSIDE = "O"


def entities(tags: Sequence[str]) -> list[Entity]:
    """Find entities in tags such as ``B-PER``, ``I-PER``, ``E-PER``, ``S-PER`` and ``O``, whole or badly begun."""
    found: list[Entity] = []
    start, last, kind = 0, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, own = tag.partition("-")
        if _ends(last, mark, kind, own):
            found.append((kind, start, place - 1))
        if _begins(last, mark, kind, own):
            start = place
        last, kind = mark, own
    return found


def _ends(last: str, mark: str, last_kind: str, kind: str) -> bool:
    """Whether an entity ends before this tag."""
    if last in ("E", "S"):
        return True
    if last in ("B", "I"):
        return mark in ("B", "S", OUTSIDE) or last_kind != kind
    return False


def _begins(last: str, mark: str, last_kind: str, kind: str) -> bool:
    """Whether an entity begins with this tag."""
    if mark in ("B", "S"):
        return True
    if mark in ("I", "E"):
        return last in ("E", "S", OUTSIDE) or last_kind != kind
    return False
