"""What passes, what fails, what can't be told, and which model is delivered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit import gate
from edgekit.algorithms import statistics
from edgekit.checks import COLLAPSE
from edgekit.core.recipe import Budget
from edgekit.core.report import Accuracy, Check, ClassChange, Interval, Latency, ModelResult, Size, TargetResult


def points(losses: int, gains: int, samples: int) -> Interval:
    found = statistics.share_change(losses, gains, samples)
    return Interval(value=100 * found.value, low=100 * found.low, high=100 * found.high)


def accuracy(classes: dict[str, tuple[int, int, int]], *, right: float = 0.9, basis: str = "measured") -> Accuracy:
    """Accuracy of a model that lost and gained so many samples of so many, by class: ``{"cat": (samples, losses, gains)}``."""
    n, losses, gains = (sum(c[i] for c in classes.values()) for i in range(3))
    chances = statistics.holm([statistics.mcnemar(lost, won) for _, lost, won in classes.values()])
    table = []
    for (name, (samples, lost, won)), p in zip(classes.items(), chances, strict=True):
        change = points(lost, won, samples)
        before = 100.0 * max(right, lost / samples)
        table.append(
            ClassChange(
                name=name,
                samples=samples,
                original=before,
                candidate=before + change.value,
                change=change.value,
                low=change.low,
                high=change.high,
                significant=bool(p < 0.05),
            )
        )
    change = points(losses, gains, n)
    return Accuracy(
        basis=basis,
        samples=n,
        metrics={"top1": 100 * right + change.value},
        primary="top1",
        change=change,
        p_value=statistics.mcnemar(losses, gains),
        changed=100 * (losses + gains) / n,
        per_class=tuple(table),
    )


def overall(losses: int, gains: int, samples: int, **more: Any) -> Accuracy:
    return accuracy({"all": (samples, losses, gains)}, **more).model_copy(update={"per_class": ()})


def around(value: float, share: float = 0.005) -> Interval:
    return Interval(value=value, low=value * (1 - share), high=value * (1 + share))


def result(
    name: str,
    *,
    ms: float | None = 1.0,
    export_ms: float | None = 2.0,
    kb: int = 500,
    role: str = "candidate",
    change: tuple[int, int, int] | None = (3, 3, 5000),
    spread: float = 0.005,
    **more: Any,
) -> ModelResult:
    runtime, _, precision = name.partition("-")
    speedup = None if ms is None or export_ms is None else around(export_ms / ms, spread)
    latency = Latency(basis="not measured", reason="pi is not at hand")
    if ms is not None:
        latency = Latency(basis="measured", p50=around(ms, spread), speedup_runtime=speedup, speedup_original=around(9.0 / ms))
    given: dict[str, Any] = {
        "accuracy": overall(*change) if change else None,
        "latency": latency,
        "size": Size(raw=kb * 1000, zstd=kb * 900),
        "digest": name,
    }
    return ModelResult(id=name, role=role, target="host", format="onnx", runtime=runtime, precision=precision, **given | more)


def only(checks: tuple[Check, ...], name: str) -> Check:
    return next(c for c in checks if c.name == name)


def drop_of(found: Accuracy | None, limit: float = 1.0) -> Check:
    return only(gate.check(result("ort-int8", accuracy=found), Budget(max_drop=limit)), "max_drop")


# accuracy


def test_a_drop_within_the_limit_for_certain_passes():
    found = drop_of(overall(20, 15, 5000))
    assert found.status == "pass"
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.1 < found.high < 1.0
    assert (found.limit, found.unit) == (1.0, "points")


def test_a_gain_passes_and_is_called_one():
    found = drop_of(overall(10, 40, 5000))
    assert (found.status, found.value) == ("pass", pytest.approx(-0.6))
    assert "top1 90.0 -> 90.6: gains 0.60 points" in found.message


def test_a_drop_beyond_the_limit_fails_and_says_whether_it_is_significant():
    sure, chance = drop_of(overall(120, 20, 5000)), drop_of(overall(10, 4, 500))
    assert (sure.status, chance.status) == ("fail", "fail")
    assert "the loss is significant (p = " in sure.message
    assert "500 samples can lose that by chance (p = 0.18)" in chance.message
    assert chance.low < 0


def test_too_few_samples_are_inconclusive_and_the_message_says_how_many_would_do():
    found = drop_of(overall(9, 7, 500))
    assert found.status == "inconclusive"
    half = (found.high - found.low) / 200
    needed = statistics.samples_needed(half, 500, (1.0 - 0.4) / 100)
    assert needed is not None
    told = int(found.message.split("about ")[1].split(" would")[0].replace(",", ""))
    assert needed <= told <= 1.1 * needed
    assert told > 1500


def test_so_many_samples_then_pass():
    assert drop_of(overall(9 * 8, 7 * 8, 500 * 8)).status == "pass"


def test_a_drop_on_the_limit_is_within_it():
    found = drop_of(overall(15, 10, 500))
    assert found.value == pytest.approx(1.0)
    assert found.status == "inconclusive"
    assert "at the limit" in found.message


def test_no_drop_allowed_means_any_drop_fails():
    assert drop_of(overall(1, 0, 500), 0.0).status == "fail"
    assert drop_of(overall(0, 0, 500), 0.0).status == "inconclusive"


def test_nothing_lost_is_not_less_than_nothing():
    check = drop_of(overall(0, 0, 500), 1.0)
    assert str(check.value) == "0.0"


def test_what_was_not_measured_is_no_pass():
    found = gate.check(result("ort-int8", change=None, latency=None), Budget(max_class_drop=5, min_speedup=1.5, max_latency=3))
    assert [c.status for c in found] == ["not measured"] * 4
    assert "measuring was turned off" in found[0].message
    assert gate.status(found) == "not measured"
    (raced,) = gate.check(result("ort-int8", change=None), Budget())
    assert raced.message == "accuracy was not measured: no evaluation set is named"


def test_one_sample_proves_nothing():
    alone = Accuracy(
        basis="measured", samples=1, metrics={"cosine": 100.0}, primary="cosine", change=Interval(value=0, low=0, high=0), changed=0
    )
    assert drop_of(alone).status == "inconclusive"


def test_accuracy_of_another_machine_says_so():
    assert "(estimated: not run on the target)" in drop_of(overall(20, 15, 5000, basis="estimated")).message


# classes


def test_three_classes_that_die_silently_fail_the_default_gate():
    classes = {f"c{i}": (100, 1, 1) for i in range(97)} | dict.fromkeys(("cat", "dog", "cow"), (100, 90, 0))
    found = gate.check(result("ort-int8", accuracy=accuracy(classes)), Budget(max_drop=5.0))
    assert only(found, "max_drop").status == "pass"
    guard = only(found, "class_collapse")
    assert guard.status == "fail"
    assert guard.value == pytest.approx(90)
    assert guard.limit == COLLAPSE
    assert "3 of 100 classes collapse" in guard.message
    assert all(name in guard.message for name in ("cat (90 -> 0, 100 samples)", "dog", "cow"))
    assert "significantly worse on cat" in only(found, "max_drop").message
    assert gate.status(found) == "fail"


def test_a_class_of_five_samples_that_dies_is_caught_among_calm_ones():
    calm = {f"c{i}": (5, 0, 0) for i in range(197)} | {f"d{i}": (5, 1, 0) for i in range(2)}
    found = accuracy(calm | {"owl": (5, 5, 0)})
    assert not found.per_class[-1].significant, "McNemar's test alone can't see it"
    guard = only(gate.check(result("ort-int8", accuracy=found), Budget()), "class_collapse")
    assert guard.status == "fail"
    assert "1 of 200 classes collapse" in guard.message
    assert "owl" in guard.message


def test_five_samples_a_class_do_not_cry_wolf():
    restless = {f"c{i}": (5, (0, 1, 0, 2, 0)[i % 5], (1, 0, 1, 1, 0)[i % 5]) for i in range(100)}
    found = gate.check(result("ort-int8", accuracy=accuracy(restless)), Budget(max_class_drop=5.0))
    assert only(found, "class_collapse").status == "pass"
    assert only(found, "max_class_drop").status == "inconclusive"
    assert "significantly" not in " ".join(c.message for c in found)


@pytest.mark.parametrize("restlessness", [0.03, 0.2])
def test_chance_alone_rarely_collapses_a_class(restlessness):
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(150):
        rates = np.minimum(1, rng.gamma(2, restlessness / 2, 100))  # classes differ in how easily their predictions change
        lost = rng.binomial(5, rates / 2)
        won = rng.binomial(5 - lost, rates / 2)
        classes = {f"c{i}": (5, int(lost[i]), int(won[i])) for i in range(100)}
        alarms += only(gate.check(result("ort-int8", accuracy=accuracy(classes)), Budget()), "class_collapse").status == "fail"
    assert alarms <= 8, alarms


def test_one_sample_a_class_names_the_lost_ones_and_has_no_guard():
    classes = {f"class {i}": (1, int(i % 5 == 0), int(i % 60 == 1)) for i in range(500)}
    found = gate.check(result("ort-int8", accuracy=accuracy(classes, right=0.516)), Budget())
    assert [c.name for c in found] == ["max_drop"]
    assert found[0].status == "fail"
    assert "the loss is significant" in found[0].message
    assert "100 of 500 classes lose, most of all class 0 (100 -> 0, 1 sample), class 5" in found[0].message
    assert "and 95 more" in found[0].message


def test_classes_of_one_name_are_kept_apart():
    found = accuracy({"crane": (100, 90, 0), "other": (100, 0, 0)})
    twins = found.model_copy(update={"per_class": tuple(c.model_copy(update={"name": "crane"}) for c in found.per_class)})
    guard = only(gate.check(result("ort-int8", accuracy=twins), Budget(max_drop=99)), "class_collapse")
    assert "1 of 2 classes collapse" in guard.message


@pytest.mark.parametrize(
    ("classes", "state", "words"),
    [
        ({"cat": (2000, 10, 10), "dog": (2000, 20, 15)}, "pass", "no class loses more than 5 points"),
        (
            {"cat": (500, 2, 2), "dog": (500, 60, 2)},
            "fail",
            "1 of 2 classes certainly lose more than 5 points: dog (90 -> 78, 500 samples)",
        ),
        ({"cat": (500, 2, 2), "dog": (25, 2, 0)}, "inconclusive", "which may be chance: dog (90 -> 82, 25 samples)"),
        ({"cat": (500, 2, 2), "dog": (25, 0, 0)}, "inconclusive", "1 of 2 could, dog most of all"),
    ],
)
def test_a_limit_for_each_class(classes, state, words):
    found = only(gate.check(result("ort-int8", accuracy=accuracy(classes)), Budget(max_drop=50, max_class_drop=5.0)), "max_class_drop")
    assert found.status == state
    assert words in found.message
    assert state != "inconclusive" or "would" in found.message


def test_a_limit_for_classes_on_a_task_without_is_not_measured():
    found = only(gate.check(result("ort-int8"), Budget(max_class_drop=5.0)), "max_class_drop")
    assert (found.status, found.message) == ("not measured", "this task has no classes")


# speed and size


@pytest.mark.parametrize(("limit", "state"), [(1.5, "pass"), (1.995, "inconclusive"), (2.1, "fail")])
def test_speedup_is_judged_on_its_interval(limit, state):
    assert only(gate.check(result("ort-int8"), Budget(min_speedup=limit)), "min_speedup").status == state


def test_an_export_is_as_fast_as_itself():
    export = result("ort-fp32", role="export", export_ms=None)
    assert only(gate.check(export, Budget(min_speedup=1.2)), "min_speedup").status == "fail"
    assert only(gate.check(export, Budget(min_speedup=1.0)), "min_speedup").status == "pass"


@pytest.mark.parametrize(("limit", "state"), [(1.1, "pass"), (1.002, "inconclusive"), (0.9, "fail")])
def test_latency_is_judged_at_the_median(limit, state):
    found = only(gate.check(result("ort-int8"), Budget(max_latency=limit)), "max_latency")
    assert (found.status, found.value, found.unit) == (state, 1.0, "ms")


def test_a_latency_that_is_only_estimated_is_not_judged():
    guessed = Latency(basis="estimated", p50=around(1.0), speedup_runtime=around(3.0))
    found = gate.check(result("ort-int8", latency=guessed), Budget(max_latency=5, min_speedup=1.0))
    assert [only(found, n).status for n in ("max_latency", "min_speedup")] == ["not measured"] * 2
    assert "it is estimated" in only(found, "max_latency").message


def test_a_missing_device_is_the_reason():
    found = only(gate.check(result("ort-int8", ms=None), Budget(min_speedup=1.2)), "min_speedup")
    assert (found.status, found.message) == ("not measured", "speed was not measured: pi is not at hand")


@pytest.mark.parametrize(("limit", "state"), [(0.5, "pass"), (0.499, "fail")])
def test_size_is_in_millions_of_bytes(limit, state):
    assert only(gate.check(result("ort-int8"), Budget(max_size=limit)), "max_size").status == state


# status


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "not measured"], "not measured"),
        (["not measured", "inconclusive", "pass"], "inconclusive"),
        (["inconclusive", "fail", "not measured"], "fail"),
        ([], "not measured"),
    ],
)
def test_the_gravest_check_decides(states, worst):
    assert gate.status([Check(name="x", status=s, limit=1, unit="", message="") for s in states]) == worst


# choice


def test_the_fastest_that_holds_the_budget_is_chosen():
    name, why = gate.choose([result("ort-int8", ms=1.0), result("ov-int8", ms=0.5), result("ov-bf16", ms=0.7)], Budget())
    assert name == "ov-int8"
    assert why == "the fastest of 3 that qualify: 0.5 ms at the median, 4.00x as fast as float in ov"


def test_a_faster_one_that_loses_accuracy_is_left_out_and_named():
    name, why = gate.choose([result("ort-int8", ms=0.3, change=(900, 10, 5000)), result("ov-bf16", ms=0.7)], Budget())
    assert name == "ov-bf16"
    assert "left out for accuracy: ort-int8 (loses 17.8 points)" in why


def test_inconclusive_accuracy_wins_if_faster_but_not_on_a_tie():
    unsure = result("ort-int8", ms=0.5, change=(9, 7, 500), kb=100)
    proven = result("ov-bf16", ms=1.0)
    assert gate.choose([proven, unsure], Budget())[0] == "ort-int8"
    level = result("ov-bf16", ms=0.505)
    name, why = gate.choose([unsure, level], Budget())
    assert name == "ov-bf16"
    assert "as fast within noise: ort-int8" in why


def test_a_strict_budget_wants_proof():
    unsure, proven = result("ort-int8", ms=0.5, change=(9, 7, 500)), result("ov-bf16", ms=1.0)
    assert gate.choose([proven, unsure], Budget(strict=True))[0] == "ov-bf16"
    assert gate.choose([unsure], Budget(strict=True))[0] == "ort-int8"


def test_equal_speed_goes_to_the_smaller_file():
    wide = [result("ort-int8", ms=1.0, spread=0.1, kb=900), result("ov-int8", ms=1.06, spread=0.1, kb=300), result("x-int8", ms=1.5, kb=10)]
    assert gate.choose(wide, Budget())[0] == "ov-int8"


def test_slower_than_its_own_float_is_not_chosen_even_if_it_is_the_fastest():
    slow = result("ort-int8", ms=0.5, export_ms=0.4)
    other = result("ov-int8", ms=0.6, export_ms=1.2)
    assert gate.choose([slow, other], Budget())[0] == "ov-int8"
    name, why = gate.choose([slow], Budget())
    assert name == "ort-int8"
    assert "0.80x as fast as float" in why


def test_float_is_chosen_where_float_is_fastest():
    export = result("ort-fp32", role="export", ms=0.16, export_ms=None, kb=2000)
    name, why = gate.choose([export, result("ort-int8", ms=0.22, export_ms=0.16)], Budget())
    assert name == "ort-fp32"
    assert "no compressed model that qualifies is faster" in why


def test_a_model_that_breaks_another_limit_gives_way():
    big, small = result("ort-int8", ms=0.5, kb=5000), result("ov-int8", ms=0.9, kb=800)
    assert gate.choose([big, small], Budget(max_size=1.0))[0] == "ov-int8"
    assert gate.choose([big], Budget(max_size=1.0))[0] == "ort-int8"


def test_if_nothing_holds_the_least_bad_is_returned_with_the_truth():
    name, why = gate.choose([result("ort-int8", ms=0.2, change=(900, 0, 5000)), result("ov-int8", change=(600, 0, 5000))], Budget())
    assert name == "ov-int8"
    assert why == "none of 2 models keeps the accuracy limits, this one loses 12.0 points"
    assert gate.choose([result("ov-int8", change=(600, 0, 5000))], Budget())[1].startswith("the only model, and it breaks")


def test_without_latency_the_fewest_bits_in_order_of_preference():
    field = [
        result("litert-fp32", role="export", ms=None, kb=2000),
        result("litert-int8-static", ms=None, change=(900, 0, 5000)),
        result("litert-int8-dynamic", ms=None),
        result("ort-int8-static", ms=None),
    ]
    name, why = gate.choose(field, Budget())
    assert name == "litert-int8-dynamic"
    assert "latency was not measured" in why
    assert "left out for accuracy: litert-int8-static (loses 18.0 points)" in why


def test_the_smallest_is_chosen_when_asked():
    field = [
        result("ov-fp32", role="export", kb=2000, ms=0.4),
        result("ov-bf16", kb=2000, ms=0.2),
        result("ov-int8", kb=501, ms=0.3),
        result("ort-int8", kb=500, ms=0.9),
    ]
    name, why = gate.choose(field, Budget(), "smallest")
    assert name == "ov-int8", "within one percent the faster one wins"
    assert why == "the smallest of 3 that qualify: 0.501 MB"


def test_nothing_to_choose_from_is_a_bug():
    with pytest.raises(ValueError, match="nothing"):
        gate.choose([], Budget())


# notes and summary


def test_notes_flag_what_does_not_pay():
    export = result("ort-fp32", role="export", kb=400, ms=0.16)
    found = gate.notes(result("ort-int8-static", ms=0.208, export_ms=0.16, kb=500), export)
    assert found == (
        "int8-static is 1.30x slower than float in ort",
        "int8-static is no smaller than the uncompressed onnx file",
    )
    assert gate.notes(export, export) == ()
    assert gate.notes(result("ort-int8", kb=100), export) == ()
    level = gate.notes(result("ort-int8", ms=1.0, export_ms=1.001, kb=100), export)
    assert level == ("int8 is not measurably faster than float in ort (1.00x [1.00, 1.01])",)


def test_the_same_file_in_another_precision_is_not_called_large():
    export = result("ov-fp32", role="export")
    assert gate.notes(result("ov-bf16", digest="ov-fp32"), export) == ()


def test_results_are_annotated_with_verdict_and_notes():
    original = result("torch-fp32", role="original")
    export = result("ort-fp32", role="export", kb=2000)
    bad = result("ort-int8", ms=4.0, accuracy=accuracy({"cat": (500, 400, 0), "dog": (500, 0, 0)}), notes=("kept 2 layers in float",))
    assert gate.annotate(original, [original, export, bad], Budget()) == original
    found = gate.annotate(bad, [original, export, bad], Budget())
    assert found.status == "fail"
    assert found.notes[:2] == ("kept 2 layers in float", "int8 is 2.00x slower than float in ort")
    assert found.notes[2] == "significantly worse on cat (90 -> 10, 500 samples)"
    assert gate.annotate(export, [export], Budget()).status == "pass"


def outcome(chosen: ModelResult, target: str = "host") -> TargetResult:
    checks = gate.check(chosen, Budget())
    return TargetResult(target=target, title="", chosen=chosen.id, reason="", status=gate.status(checks), checks=checks)


def test_the_summary_of_a_success_gives_its_figures():
    good = result("ov-int8", ms=0.5, change=(20, 15, 5000))
    assert (
        gate.summary("pass", [outcome(good)], [good]) == "host: ov-int8, 0.5 ms at the median, 18.0x the original, top1 89.9 (-0.1), 0.5 MB"
    )


def test_the_summary_of_a_failure_gives_the_reason():
    good, bad = result("ov-int8"), result("ort-int8", change=(900, 0, 5000))
    said = gate.summary("fail", [outcome(good), outcome(bad, "pi")], [good, bad])
    assert said == "1 of 2 targets hold the budget; pi: top1 90.0 -> 72.0: loses 18.0 points [loss 16.9 to 19.1], 1 may be lost"
