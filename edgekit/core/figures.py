"""What a task computes of a draw of samples: the numbers whose intervals resampling finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Figures:
    """The primary metric of a draw of samples and, where one sample may hold several classes, the metric of each.

    Attributes:
        primary: the task's primary metric.
        classes: the metric of each class [K], NaN where no drawn sample tells it; empty where samples have one class or none.
    """

    primary: float
    classes: tuple[float, ...] | np.ndarray = ()


Draw = Callable[[np.ndarray], Figures]
"""Figures as a function of how often each sample [N] is drawn."""
