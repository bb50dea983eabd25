"""Transcripts: what a CTC network writes, and how far that is from what was said."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def collapsed(choices: np.ndarray, blank: int) -> list[int]:
    """Read a CTC path [T]: equal neighbours are one, blanks are none.

    Reference: Graves et al. 2006, "Connectionist Temporal Classification", section 3.1.
    """
    first = np.append(True, choices[1:] != choices[:-1]) if len(choices) else np.zeros(0, bool)
    return [int(choice) for choice in choices[first & (choices != blank)]]


def edits(written: Sequence[Hashable], wanted: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions that make one sequence the other (Levenshtein 1966)."""
    numbers: dict[Hashable, int] = {}
    mine, theirs = (np.array([numbers.setdefault(item, len(numbers)) for item in side], np.int64) for side in (written, wanted))
    row = places = np.arange(len(theirs) + 1)
    for number, item in enumerate(mine, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (theirs != item))
        row = np.minimum.accumulate(np.concatenate([[number], best]) - places) + places  # insertions run along the row
    return int(row[-1])
