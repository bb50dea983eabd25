from __future__ import annotations

import numpy as np

from edgekit.search._clock import ROUNDS, milliseconds, steadied


class Clocked:
    """A session on a machine whose pace changes from round to round, with one round in which it was lucky."""

    def __init__(self, ms: float, lucky: int | None = None) -> None:
        self.ms, self.lucky, self.calls = ms, lucky, -1

    def __enter__(self) -> Clocked:
        return self

    def __exit__(self, *problem: object) -> None:
        pass

    def time(self, inputs: object, *, seconds: float, at_least: int) -> list[float]:
        self.calls += 1
        pace = 1.6 if 0 < self.calls <= ROUNDS // 2 else 1.0
        return [1e6 * self.ms * (0.5 if self.calls == self.lucky else pace)] * at_least


def test_a_slow_stretch_and_a_lucky_round_change_no_order() -> None:
    sessions = {"slow": Clocked(3.0, lucky=5), "middle": Clocked(2.5), "quick": Clocked(2.0)}
    found = milliseconds(list(sessions), {}, sessions.__getitem__)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.array(found) / found[2], [1.5, 1.25, 1.0])


def test_on_a_quiet_machine_it_is_the_median() -> None:
    rounds = np.random.default_rng(0).permuted(np.linspace(0.99, 1.01, 9)[None] * np.array([[1.0], [4.0]]), axis=1)
    np.testing.assert_allclose(steadied(rounds), [1.0, 4.0], rtol=0.01)
