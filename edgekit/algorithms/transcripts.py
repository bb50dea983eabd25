"""Transcripts: what a CTC network writes."""

from __future__ import annotations

import numpy as np


def collapsed(choices: np.ndarray, blank: int) -> list[int]:
    """Read a CTC path [T]: equal neighbours are one, blanks are none.

    Reference: Graves et al. 2006, "Connectionist Temporal Classification", section 3.1.
    """
    first = np.append(True, choices[1:] != choices[:-1]) if len(choices) else np.zeros(0, bool)
    return [int(choice) for choice in choices[first & (choices != blank)]]
