"""Tells which tensor of one graph is which of another by what they hold on the same sample.

Exporters fuse, rename and transpose; what a tensor holds stays the same, in whatever order its axes lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np

Signature = tuple[float, float, float, float, float]
"""Number of values, smallest, largest, mean, and root mean square."""
Known = TypeVar("Known")

TOLERANCE = 1e-3
"""Difference that two computations of the same tensor may show, as a share of its largest magnitude."""


def signature(values: np.ndarray) -> Signature:
    """Describe what a tensor of any shape holds; a constant tensor is described as empty, because it tells nothing."""
    wide = values.astype(np.float64).reshape(-1)
    if not wide.size or wide.min() == wide.max():
        return (0.0, 0.0, 0.0, 0.0, 0.0)
    return (float(wide.size), float(wide.min()), float(wide.max()), float(wide.mean()), float(np.sqrt(np.mean(wide * wide))))


def recognised(values: Mapping[str, np.ndarray], known: Iterable[tuple[Signature, Known]]) -> dict[str, Known]:
    """Return what is known of those tensors that hold the same as a known one; the nearest where several do.

    Args:
        values: tensors of a graph by name.
        known: signatures on the same sample, each with something to tell.
    """
    candidates = [(np.array(described), told) for described, told in known if described[0]]
    found = {}
    for name, array in values.items():
        mine = np.array(signature(array))
        if not mine[0]:
            continue
        far = [(_distance(mine, theirs), told) for theirs, told in candidates if mine[0] == theirs[0]]
        distance, told = min(far, key=lambda pair: pair[0], default=(np.inf, None))
        if told is not None and distance < TOLERANCE:
            found[name] = told
    return found


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    scale = max(abs(second[1]), abs(second[2]))
    return float(np.abs(first[1:] - second[1:]).max() / scale)
