"""Labels of sequences: a number for each place, checked against the scores at that place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.core.errors import DataError

IGNORED = -100
"""Label of a place that does not count, as in Transformers."""


def places(labels: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Labels as int64 [N, L].

    Args:
        labels: one array of whole numbers [L] a sample.
        shape: of the scores, [N, L, K].

    Raises:
        DataError: no sequence, another length than the scores', or a number beyond the K.
    """
    for label in labels:
        if not isinstance(label, np.ndarray) or label.shape != (shape[1],):
            said = "none" if label is None else f"{label!r:.60}"
            raise DataError(
                f"a text's labels are one number a token [{shape[1]}], this one has {said}",
                hint=f"name them in 'labels', {IGNORED} for places that don't count",
            )
    numbers = np.stack([label.astype(np.int64) for label in labels])
    known = numbers[numbers != IGNORED]
    if known.size and not 0 <= known.min() <= known.max() < shape[2]:
        raise DataError(f"label {int(known.max())} is beyond the model's {shape[2]}", hint="is this set meant for this model?")
    return numbers
