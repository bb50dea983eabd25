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

ROUNDS = 9
ROUND_SECONDS = 0.03
CALLS_A_ROUND = 3
WARM_CALLS = 5


def milliseconds(models: Sequence[Path], sample: Batch, opened: Opened) -> list[float]:
    """Return each model's best round, as the median of its calls; rounds take turns, so that none has the quieter machine.

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
    return [min(medians) / 1e6 for medians in rounds]
