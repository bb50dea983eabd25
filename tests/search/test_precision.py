from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.core.artifacts import Artifact
from edgekit.core.errors import QuantizationError
from edgekit.search import precision

Search = Callable[..., Any]
QUIET = 0.001


def test_noisy_layers_stay_in_float_and_no_more(search: Search, factory: Any) -> None:
    found = search(factory({"a": QUIET, "b": 3.0, "c": QUIET, "d": QUIET, "e": 2.0, "f": QUIET, "g": QUIET, "h": QUIET}))
    assert found.floats == ["b", "e"]
    assert found.record["met"] is True
    assert found.record["drop"] <= 1
    assert (found.record["in_float"], found.record["choices"]) == (2, 8)
    assert found.reasons["b"].endswith("kept in float to lose at most 1 points")
    assert found.reasons["a"].endswith(" dB alone")
    assert float(found.reasons["b"].split()[0]) < 10 < 60 < float(found.reasons["a"].split()[0])


def test_what_was_tried_is_told_with_what_it_lost(search: Search, factory: Any) -> None:
    record = search(factory({"a": 3.0, "b": QUIET, "c": QUIET})).record
    drops = {tuple(tried["in_float"]): tried["drop"] for tried in record["tried"]}
    assert drops[()] > 10 > 1 > drops[("a",)]
    assert record["judged_on"] == {"set": "points, every fourth, held out", "samples": 100, "labelled": True}


def test_a_harmless_model_stays_in_integers_and_no_layer_is_measured_alone(search: Search, factory: Any) -> None:
    factory = factory(dict.fromkeys("abcdefgh", QUIET))
    found = search(factory)
    assert found.floats == []
    assert factory.made == 2  # the float model and the one in integers
    assert found.reasons["a"] == "all layers in integers lose at most 0.00 of 1 points that may be lost"


def test_integers_between_float_layers_become_float_where_that_is_faster(search: Search, factory: Any) -> None:
    noise = {"a": QUIET, "b": 3.0, "c": QUIET, "d": 3.0, "e": QUIET, "f": QUIET, "g": QUIET}
    gains = dict.fromkeys(noise, 0.5)
    assert search(factory(noise, gains, conversion=0.1), name="cheap").floats == ["b", "d"]
    found = search(factory(noise, gains, conversion=0.4), name="dear")
    assert {"b", "c", "d"} <= set(found.floats) < set(noise)
    assert found.reasons["c"].endswith("faster in float than between float layers")
    assert found.record["latency_ms"] < found.record["float_ms"]


def test_float_layers_spread_as_far_as_that_is_faster(search: Search, factory: Any) -> None:
    noise = dict.fromkeys("abcdefghij", QUIET) | {"e": 3.0}
    found = search(factory(noise, dict.fromkeys("cdefg", -0.5) | dict.fromkeys("abhij", 0.9)))
    assert found.floats == list("cdefg")
    assert found.record["latency_ms"] == min(tried["latency_ms"] for tried in found.record["tried"] if tried["latency_ms"])


def test_without_a_clock_the_fewest_layers_in_float_count_as_the_fastest(search: Search, factory: Any) -> None:
    noise = {"a": QUIET, "b": 3.0, "c": QUIET, "d": 3.0, "e": QUIET}
    found = search(factory(noise, conversion=0.4), timed=False)
    assert found.floats == ["b", "d"]
    assert found.record["latency_ms"] is found.record["float_ms"] is None


def test_integers_that_lose_nothing_and_gain_nothing_are_not_taken_for_granted(search: Search, factory: Any) -> None:
    noise = {"a": QUIET, "b": 2 * QUIET, "c": QUIET, "d": QUIET, "e": QUIET, "f": QUIET}
    found = search(factory(noise, {"a": 0.9, "b": -3.0}, conversion=0.1))
    assert found.floats == ["b"]
    assert found.record["all_integer_ms"] > found.record["float_ms"] > found.record["latency_ms"]
    assert found.reasons["b"] == "faster in float"
    assert found.reasons["a"] == "all layers in integers lose at most 0.00 of 1 points that may be lost"


def test_layers_of_a_kind_that_are_slow_in_integers_become_float_in_every_block(search: Search, factory: Any) -> None:
    kinds = {"query": 0.9, "softmax": -3.0, "norm": -2.0}
    gains = {f"block{place}.{kind}": gain for place in range(3) for kind, gain in kinds.items()}
    factory = factory(dict.fromkeys(gains, QUIET), gains)
    found = search(factory)
    assert set(found.floats) == {name for name in gains if not name.endswith("query")}
    assert factory.made == 6  # float, all integers, three groups, two of them together: no layer is measured alone


def test_integers_stay_where_no_mixture_would_be_faster_than_float(search: Search, factory: Any) -> None:
    gains = {f"block{place}.{kind}": gain for place in range(3) for kind, gain in {"query": -0.1, "softmax": -1.0, "norm": -0.5}.items()}
    factory = factory(dict.fromkeys(gains, QUIET), gains, conversion=0.1)
    found = search(factory)
    assert found.floats == []
    assert factory.made == 5  # float, all integers, three groups; all that they save together is not enough


def test_a_budget_that_cannot_be_met_gives_the_best_found_and_says_so(search: Search, factory: Any) -> None:
    found = search(factory({"a": 5.0, "b": 4.0, "c": 3.0}))
    assert found.record["met"] is False
    assert found.floats == ["a", "b"]
    (note,) = precision.summary(found.made)
    assert note.startswith("accuracy-aware: max_drop 1 can't be met with any layer in integers; the best found has 2 of 3 layers in float")
    assert f"may lose {found.record['drop']:.2f} points on 100 samples" in note


def test_outputs_that_are_not_finite_lose_everything(search: Search, factory: Any) -> None:
    found = search(factory({"a": float("nan"), "b": QUIET, "c": QUIET}))
    assert found.floats == ["a"]
    assert next(tried["drop"] for tried in found.record["tried"] if not tried["in_float"]) is None


def test_the_same_seed_gives_the_same_result(search: Search, factory: Any, points: Any) -> None:
    noise = {name: 0.2 * place for place, name in enumerate("abcdefghij")}
    first, second = (search(factory(noise), 0.5, training=points(900, "more", seed=3), name=name) for name in ("one", "two"))
    assert first.floats == second.floats != []
    assert first.reasons == second.reasons
    assert {**first.record, "seconds": 0} == {**second.record, "seconds": 0}


def test_each_assignment_is_judged_once(search: Search, factory: Any, listener: Any) -> None:
    search(factory({"a": 3.0, "b": 2.0, "c": 1.0, "d": QUIET, "e": QUIET}), progress=listener)
    said = [note.split(":")[0] for note in listener.notes]
    assert len(said) == len(set(said))


def test_training_samples_judge_where_there_are_some(search: Search, factory: Any, points: Any) -> None:
    training, calibration = points(900, "more", seed=3), points(40)
    record = search(factory({"a": 3.0, "b": QUIET, "c": QUIET}), calibration=calibration, training=training).record
    assert record["judged_on"] == {"set": "more, 400 that calibration did not see", "samples": 400, "labelled": True}


def test_as_many_judge_although_the_same_seed_chose_the_calibration_samples(search: Search, factory: Any, points: Any) -> None:
    training, calibration = points(2000, "more"), points(0)
    chosen = training.parted(0.15, 0)[1]
    calibration.rows, calibration.labels = chosen.rows, chosen.labels
    record = search(factory({"a": 3.0, "b": QUIET}), calibration=calibration, training=training).record
    assert record["judged_on"]["samples"] == 400


def test_training_samples_that_calibrate_do_not_judge(search: Search, factory: Any, points: Any) -> None:
    training = points(60, "more")
    calibration = points(60, "more")
    calibration.rows, calibration.labels = training.rows[:20], training.labels[:20]
    record = search(factory({"a": 3.0, "b": QUIET}), calibration=calibration, training=training).record
    assert record["judged_on"]["set"] == "more, 40 that calibration did not see"


@pytest.mark.parametrize("options", [{"labelled": False}, {"count": 80}])
def test_without_labels_or_with_few_samples_agreement_judges(search: Search, options: dict[str, Any], factory: Any, points: Any) -> None:
    found = search(factory({"a": 3.0, "b": QUIET, "c": QUIET}), calibration=points(**options))
    assert found.floats == ["a"]
    assert found.record["judged_on"]["labelled"] is False
    assert "by agreement with the float model" in precision.summary(found.made)[0]


def test_nothing_to_judge_on_is_refused(search: Search, factory: Any) -> None:
    with pytest.raises(QuantizationError, match="no samples to judge on"):
        search(factory({"a": QUIET}), calibration=None)
    with pytest.raises(QuantizationError, match="needs a task"):
        search(factory({"a": QUIET}), task=None, name="other")


def test_other_models_have_nothing_to_tell(tmp_path: Path, factory: Any) -> None:
    made = factory({"a": QUIET}).write(factory({"a": QUIET}).plan(), tmp_path)
    assert precision.summary(made) == ()


def test_the_record_belongs_beside_the_model_and_not_to_it(search: Search, factory: Any) -> None:
    made = search(factory({"a": 3.0, "b": QUIET})).made
    assert [path.name for path in made.files] == ["model.json"]
    assert Artifact.load(made.path) == replace(made)
