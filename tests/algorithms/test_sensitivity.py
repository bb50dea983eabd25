from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from edgekit.algorithms.sensitivity import Noise, decibels, fewest_in_float, noisiest_first, predicted, settled

POWERS = {"stem": 0.01, "body": 0.1, "neck": 0.001, "head": 0.001}


def test_powers_add_and_become_decibels() -> None:
    assert predicted(POWERS) == pytest.approx(-10 * math.log10(0.112))
    assert predicted(POWERS, ["body", "stem"]) == pytest.approx(-10 * math.log10(0.002))
    assert predicted(POWERS, list(POWERS)) == math.inf
    assert decibels(0.01) == pytest.approx(20)


def test_noisiest_come_first_and_equals_stay_in_order() -> None:
    assert noisiest_first(POWERS) == ["body", "stem", "neck", "head"]


@pytest.mark.parametrize(
    ("wanted", "kept"), [(9.0, []), (9.6, ["body"]), (19.1, ["body"]), (19.3, ["body", "stem"]), (99.0, ["body", "stem", "neck", "head"])]
)
def test_as_few_layers_as_will_do_stay_in_float(wanted: float, kept: list[str]) -> None:
    assert fewest_in_float(POWERS, wanted) == kept
    if kept:
        assert predicted(POWERS, kept[:-1]) < wanted <= predicted(POWERS, kept)


def test_measuring_corrects_the_prediction_both_ways() -> None:
    ratios = [8.0, 18.0, 25.0, 30.0, math.inf]
    asked: list[int] = []

    def measure(kept: Sequence[str]) -> float:
        asked.append(len(kept))
        return ratios[len(kept)]

    assert settled(POWERS, 19.1, measure) == (["body", "stem"], 25.0)  # predicted to need one
    assert asked == [1, 2]
    assert settled(POWERS, 24.0, measure) == (["body", "stem"], 25.0)
    assert settled(POWERS, 17.0, measure) == (["body"], 18.0)
    assert settled(POWERS, 28.0, measure) == (["body", "stem", "neck"], 30.0)
    assert settled(POWERS, 5.0, measure) == ([], 8.0)
    ratios[:] = [20.0, 21.0, 25.0, 30.0, math.inf]
    assert settled(POWERS, 19.3, measure) == ([], 20.0)  # predicted to need two


def test_noise_that_no_layer_explains_is_reported_as_it_is() -> None:
    assert settled(POWERS, 30.0, lambda kept: 12.0) == (["body", "stem", "neck", "head"], 12.0)


def test_noise_of_the_worst_output_over_all_samples() -> None:
    noise = Noise()
    noise.add([np.array([3.0, 4.0]), np.array([10.0])], [np.array([3.0, 4.5]), np.array([10.0])])
    noise.add([np.array([0.0, 5.0]), np.array([10.0])], [np.array([0.0, 5.0]), np.array([11.0])])
    assert noise.power == pytest.approx(max(0.25 / 50, 1 / 200))
    perfect = Noise()
    perfect.add([np.zeros(3)], [np.zeros(3)])
    assert perfect.power == 0


def test_what_the_float_model_leaves_open_does_not_count_but_a_broken_result_does() -> None:
    noise = Noise()
    noise.add([np.array([1.0, -np.inf, np.nan])], [np.array([1.0, 7.0, 7.0])])
    assert noise.power == 0
    noise.add([np.array([1.0])], [np.array([np.nan])])
    assert noise.power == math.inf
    out_of_nothing = Noise()
    out_of_nothing.add([np.zeros(2)], [np.ones(2)])
    assert out_of_nothing.power == math.inf
