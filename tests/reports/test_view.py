from __future__ import annotations

from edgekit.core.report import ClassChange
from edgekit.reports._view import groups, notes_of, pareto, short, worst_first


def test_models_are_grouped_by_target_with_the_original_first(full):
    host, pi, orin = groups(full)
    assert [g.name for g in (host, pi, orin)] == ["host", "raspberry-pi-4", "jetson-orin-nano"]
    assert [m.id for m in orin.models] == ["original", "jetson-orin-nano/onnx-int8-static"]
    assert len(host.models) == 11
    assert host.focus is not None
    assert host.focus.id == "host/openvino-bf16"


def test_latency_of_the_original_is_not_shown_beside_a_device_that_was_not_measured(full):
    host, pi, _ = groups(full)
    assert host.shows_latency(full.model("original"))
    assert not pi.shows_latency(full.model("original"))


def test_without_a_chosen_model_the_most_accurate_candidate_is_in_focus(full):
    target = full.targets[0].model_copy(update={"chosen": None})
    group = groups(full.model_copy(update={"targets": (target,)}))[0]
    assert group.focus is not None
    assert group.focus.id == "host/onnx-fp16"
    assert not group.is_chosen(group.focus)


def test_models_without_a_target_form_a_group(bare):
    (group,) = groups(bare)
    assert (group.name, [m.id for m in group.models]) == ("", ["m"])


def test_worst_class_first_and_the_larger_one_among_equals():
    def change(name: str, samples: int, points: float) -> ClassChange:
        return ClassChange(name=name, samples=samples, original=50, candidate=50 + points, change=points, significant=False)

    given = (change("b", 5, -1), change("a", 5, -1), change("big", 9, -1), change("worst", 1, -9), change("better", 9, 4))
    assert [c.name for c in worst_first(given)] == ["worst", "big", "a", "b", "better"]


def test_pareto_keeps_only_what_nothing_beats_in_both():
    assert pareto([(1.0, 50.0), (2.0, 52.0), (2.0, 51.0), (3.0, 49.0), (0.5, 40.0), (1.0, 50.0)]) == [(0.5, 40.0), (1.0, 50.0), (2.0, 52.0)]


def test_a_note_on_several_models_is_told_once(full):
    notes = notes_of(groups(full)[0])
    assert notes["slower than its own export: int8 does not pay in this runtime"] == ["onnx-int8-static", "onnx-fp16", "tflite-int8-static"]


def test_short_name_leaves_out_the_target(full):
    assert short(full.model("host/onnx-fp16")) == "onnx-fp16"
    assert short(full.model("original")) == "original"
