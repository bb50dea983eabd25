"""Which of a few models is fastest, told by letting them take turns in one process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgekit.core.artifacts import Batch
    from edgekit.search._judge import Opened

ROUNDS = 7
ROUND_SECONDS = 0.03
CALLS_A_ROUND = 2
WARM_CALLS = 5


def milliseconds(models: Sequence[Path], sample: Batch, opened: Opened) -> list[float]:
    """Return each model's median over the rounds; rounds take turns, and what slows all models in a round alike counts for none.

    Args:
        models: their files.
        sample: inputs that all of them take.
        opened: loads a file.
    """
    rounds: list[list[float]] = [[] for _ in models]
    with ExitStack() as stack:
        sessions = [stack.enter_context(opened(file)) for file in models]
        for session in sessions:
            session.time(sample, seconds=ROUND_SECONDS, at_least=WARM_CALLS)
        for number in range(ROUNDS):
            for turn in range(len(sessions)):
                index = (number + turn) % len(sessions)
                laps = sessions[index].time(sample, seconds=ROUND_SECONDS, at_least=CALLS_A_ROUND)
                rounds[index].append(float(np.median(laps)))
    return [float(latency) / 1e6 for latency in steadied(np.array(rounds))]


def steadied(rounds: np.ndarray) -> np.ndarray:
    """Median latency of each model [M] over its rounds [M, R], each round taken at the pace at which all models ran in it."""
    pace = np.median(rounds / np.median(rounds, axis=1, keepdims=True), axis=0)
    return np.asarray(np.median(rounds / pace, axis=1))
