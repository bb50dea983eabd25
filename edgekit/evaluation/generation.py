"""How fast a model writes: time to the first token, tokens a second after it, and whether they are the original's tokens.

All models write behind the same prompt, greedily and the same number of tokens, in interleaved rounds in fresh processes, as in
:mod:`edgekit.evaluation.latency`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgekit.algorithms import statistics
from edgekit.core.artifacts import Batch
from edgekit.core.progress import Progress
from edgekit.core.report import Basis, Generation
from edgekit.evaluation.latency import Contestant


@dataclass(frozen=True)
class Writing:
    """What one model wrote.

    Attributes:
        prompt: number of tokens that were read; 0 where it was no text.
        tokens: the new ones [N].
        rounds: nanoseconds until each of them was there, by round [R, N].
    """

    prompt: int
    tokens: tuple[int, ...]
    rounds: tuple[tuple[int, ...], ...]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Writing:
        """Read what :meth:`save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return Writing(content["prompt"], tuple(content["tokens"]), tuple(tuple(r) for r in content["rounds"]))


def race(contestants: Sequence[Contestant], prompt: Batch, rounds: int, progress: Progress) -> dict[str, Writing]:
    """Let models write in turn; a first turn of each warms up.

    Raises:
        EdgekitError: a model does not load, or does not write.
    """
    read = prompt["input_ids"].shape[1] if "input_ids" in prompt else 0
    tokens: dict[str, tuple[int, ...]] = {}
    times: dict[str, list[tuple[int, ...]]] = {one.id: [] for one in contestants}
    with ExitStack() as closing:
        sessions = {one.id: closing.enter_context(one.host.open(one.model, one.runtime, one.settings)) for one in contestants}
        for name, session in sessions.items():
            tokens[name] = tuple(session.generate(prompt, stop=[])["tokens"][0].tolist())
        order = list(sessions)
        for number in range(rounds):
            for turn in range(len(order)):
                name = order[(number + turn) % len(order)]
                times[name].append(tuple(sessions[name].generate(prompt, stop=[])["nanoseconds"].tolist()))
                progress.advance(number * len(order) + turn + 1, rounds * len(order))
    return {name: Writing(read, tokens[name], tuple(found)) for name, found in times.items()}


def summarise(writing: Writing, original: Writing, *, basis: Basis = "measured", seed: int = 0) -> Generation:
    """Turn what a model wrote into the report's figures: medians over rounds, and the share of tokens that the original wrote too.

    Args:
        writing: the model's.
        original: that of the original, from the same race.
        basis: whether this machine is the target or like it.
        seed: of the resampling.
    """
    times = np.array(writing.rounds, np.float64)
    first = statistics.median_of_rounds(times[:, 0] / 1e6, seed=seed)
    rate = None
    if times.shape[1] > 1:
        rate = statistics.median_of_rounds((times.shape[1] - 1) * 1e9 / (times[:, -1] - times[:, 0]), seed=seed)
    same = np.mean([a == b for a, b in zip(writing.tokens, original.tokens, strict=True)])
    return Generation(
        basis=basis,
        prompt=writing.prompt,
        new_tokens=len(writing.tokens),
        rounds=len(times),
        first_token_ms=first,
        tokens_per_second=rate,
        same_tokens=100 * float(same),
    )


def told(found: Generation) -> str:
    """The figures as a note."""
    rate = f"{found.tokens_per_second.value:.3g} tokens/s after " if found.tokens_per_second else ""
    return (
        f"writes {rate}{found.first_token_ms.value:.3g} ms to the first token "
        f"({found.prompt} read, {found.new_tokens} written; {found.same_tokens:.0f} % of them the original's)"
    )
