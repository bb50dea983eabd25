from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from edgekit.comparison import Comparison, Pair, compare
from edgekit.core.errors import InputError
from edgekit.core.report import Interval, Report

SAMPLES = runpy.run_path(str(Path(__file__).parent / "reports" / "samples.py"))


@pytest.fixture
def full() -> Report:
    return SAMPLES["full_report"]()


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Write reports as run folders and compare them."""

    def go(*reports: Report, **gates: float) -> Comparison:
        paths = []
        for index, report in enumerate(reports):
            folder = tmp_path / f"run{index}"
            folder.mkdir()
            (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
            paths.append(folder)
        return compare(paths, **gates)

    return go


def changed(report: Report, model_id: str, **fields: Any) -> Report:
    """The report with fields of a model's accuracy, latency or size replaced: ``accuracy={...}``."""

    def edit(model: Any) -> Any:
        if model.id != model_id:
            return model
        return model.model_copy(update={k: getattr(model, k).model_copy(update=v) if isinstance(v, dict) else v for k, v in fields.items()})

    return report.model_copy(update={"models": tuple(edit(m) for m in report.models)})


def remade(report: Report, **fields: Any) -> Report:
    return report.model_copy(update={"provenance": report.provenance.model_copy(update=fields)})


def interval(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


def pair(found: Comparison, subject: str) -> Pair:
    (run,) = found.runs
    return next(p for p in (*run.delivered, *run.models) if p.subject == subject)


CHOSEN = "host/openvino-bf16"


def test_a_run_against_itself_has_nothing_to_tell(full, run):
    found = run(full, full, max_drop=0, max_slowdown=1.0, max_growth=1.0)
    (only,) = found.runs
    assert (found.status, found.exit_code) == ("not measured", 0)
    assert {c.status for c in only.checks if c.message.startswith("host")} == {"pass"}
    assert (only.versions, only.machine, only.settings, only.notes, only.only_baseline) == ((), (), (), (), ())
    assert {p.latency.finding for p in only.models} == {"within noise", "not measured"}
    assert {p.size.finding for p in only.models} == {"same"}
    assert len(only.models) == len(full.models)


def test_difference_of_changes_adds_both_uncertainties_in_squares(full, run):
    worse = changed(full, CHOSEN, accuracy={"change": interval(-3.4, -4.4, -2.4), "metrics": {"top1": 48.2}})
    delta = pair(run(full, worse), CHOSEN).accuracy
    assert (delta.baseline, delta.run, delta.finding) == (51.2, 48.2, "worse")
    assert delta.change is not None
    half = (1.4**2 + 1.0**2) ** 0.5
    assert (delta.change.value, delta.change.low, delta.change.high) == pytest.approx((-3.0, -3.0 - half, -3.0 + half))


@pytest.mark.parametrize(
    ("change", "limit", "status"),
    [
        (interval(-3.4, -4.4, -2.4), 1.0, "fail"),
        (interval(-3.4, -4.4, -2.4), 3.0, "pass"),
        (interval(-3.4, -6.4, -0.4), 1.0, "inconclusive"),
        (interval(-0.4, -1.8, 1.0), 0.0, "pass"),
        (interval(0.6, 0.1, 1.1), 0.0, "pass"),
    ],
)
def test_gate_on_accuracy(change, limit, status, full, run):
    found = run(full, changed(full, CHOSEN, accuracy={"change": change}), max_drop=limit)
    check = found.runs[0].checks[0]
    assert (check.name, check.status, check.limit, check.unit) == ("max_drop", status, limit, "points")
    assert found.exit_code == (status == "fail")


@pytest.mark.parametrize(
    ("p50", "limit", "finding", "status"),
    [
        (interval(0.90, 0.88, 0.92), 1.1, "worse", "fail"),
        (interval(0.90, 0.88, 0.92), 1.2, "worse", "pass"),
        (interval(0.90, 0.77, 1.05), 1.1, "within noise", "inconclusive"),
        (interval(0.80, 0.77, 0.83), 1.1, "within noise", "pass"),
        (interval(0.60, 0.59, 0.61), 1.1, "better", "pass"),
    ],
)
def test_slower_counts_only_when_the_intervals_do_not_overlap(p50, limit, finding, status, full, run):
    found = run(full, changed(full, CHOSEN, latency={"p50": p50}), max_slowdown=limit)
    assert pair(found, CHOSEN).latency.finding == finding
    check = found.runs[0].checks[0]
    assert (check.status, check.value) == (status, pytest.approx(p50.value / 0.769))
    assert ("within noise" in check.message) == (finding == "within noise")
    assert found.exit_code == (status == "fail")


def test_gate_on_size(full, run):
    found = run(full, changed(full, CHOSEN, size={"raw": 2_335_200}), max_growth=1.1)
    check = found.runs[0].checks[0]
    assert (check.status, check.value, found.exit_code) == ("fail", pytest.approx(1.2), 1)
    assert check.message == "host: size 1.200 times the baseline's; growth may be 1.1"


@pytest.mark.parametrize(
    ("machine", "said"),
    [({"cpu": "Other CPU"}, "different machines"), ({"features": ("avx2",)}, "different instruction sets: amx_bf16, amx_int8")],
)
def test_latencies_of_different_machines_are_not_compared_and_no_gate_uses_them(machine, said, full, run):
    slow = changed(full, CHOSEN, latency={"p50": interval(9.0, 8.9, 9.1)})
    other = remade(slow, machine=full.provenance.machine.model_copy(update=machine))
    found = run(full, other, max_slowdown=1.1)
    delta = pair(found, CHOSEN).latency
    assert (delta.finding, delta.change, delta.run) == ("not comparable", None, 9.0)
    assert said in delta.reason
    assert (found.runs[0].checks[0].status, found.exit_code) == ("not measured", 0)
    assert any(said in note for note in found.runs[0].notes)
    assert pair(found, CHOSEN).accuracy.finding == "within noise"


def test_latencies_with_different_threads_are_not_compared(full, run):
    found = run(full, changed(full, CHOSEN, latency={"circumstances": {"threads": 4}}))
    assert pair(found, CHOSEN).latency.reason == "measured with 1 and 4 threads"
    assert pair(found, "host/onnx-fp32").latency.finding == "within noise"


def test_estimated_latencies_are_not_compared(full, run):
    found = run(full, changed(full, CHOSEN, latency={"basis": "estimated"}))
    assert pair(found, CHOSEN).latency.reason == "measured and estimated: only measured latencies can be compared"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda r: remade(r, evaluation={"name": "other", "digest": "00" * 32}), "different evaluation sets: imagenet-samples and other"),
        (lambda r: remade(r, evaluation=None), "different evaluation sets"),
        (lambda r: r.model_copy(update={"task": "generic"}), "judged as image_classification and as generic"),
        (lambda r: changed(r, CHOSEN, accuracy={"samples": 100}), "judged on 500 and 100 samples"),
        (lambda r: changed(r, CHOSEN, accuracy={"primary": "top5"}), "judged by top1 and top5"),
    ],
)
def test_accuracies_on_different_grounds_are_not_compared_and_no_gate_uses_them(edit, said, full, run):
    worse = changed(full, CHOSEN, accuracy={"change": interval(-30.0, -31.0, -29.0)})
    found = run(full, edit(worse), max_drop=1.0)
    delta = pair(found, CHOSEN).accuracy
    assert (delta.finding, delta.change) == ("not comparable", None)
    assert said in delta.reason
    assert (found.runs[0].checks[0].status, found.exit_code) == ("not measured", 0)


def test_the_gate_judges_what_is_delivered_and_not_the_other_candidates(full, run):
    worse = changed(full, "host/onnx-fp16", accuracy={"change": interval(-30.0, -31.0, -29.0)})
    assert run(full, worse, max_drop=1.0).exit_code == 0


def test_another_model_delivered_is_compared_with_the_one_before(full, run):
    target = full.targets[0].model_copy(update={"chosen": "host/tflite-int8-static", "status": "fail"})
    found = run(full, full.model_copy(update={"targets": (target, *full.targets[1:])}), max_drop=1.0)
    delivered = pair(found, "host")
    assert (delivered.baseline, delivered.run) == (CHOSEN, "host/tflite-int8-static")
    assert (delivered.baseline_status, delivered.run_status) == ("pass", "fail")
    assert found.exit_code == 1


def test_nothing_delivered_any_more_fails_every_gate(full, run):
    target = full.targets[0].model_copy(update={"chosen": None})
    found = run(full, full.model_copy(update={"targets": (target, *full.targets[1:])}), max_growth=2.0)
    assert found.exit_code == 1
    assert found.runs[0].checks[0].message == "host: the run delivers no model"


def test_a_target_that_the_run_left_out_is_told_and_not_passed(full, run):
    found = run(full, full.model_copy(update={"targets": full.targets[:1]}), max_growth=2.0)
    assert {c.message.split(":")[0]: c.status for c in found.runs[0].checks} == {
        "host": "pass",
        "raspberry-pi-4": "not measured",
        "jetson-orin-nano": "not measured",
    }
    assert "the run was not made for raspberry-pi-4, which the baseline delivers for" in found.runs[0].notes


def test_one_target_against_another(full, run):
    orin, pi = (
        full.model_copy(update={"targets": (target,), "models": tuple(m for m in full.models if m.target in (None, target.target))})
        for target in (full.targets[2], full.targets[1])
    )
    found = run(orin, pi, max_growth=1.0)
    delivered = pair(found, "jetson-orin-nano -> raspberry-pi-4")
    assert (delivered.baseline, delivered.run) == ("jetson-orin-nano/onnx-int8-static", "raspberry-pi-4/tflite-int8-static")
    assert delivered.latency.finding == "not measured"
    assert delivered.size.change is not None
    assert delivered.size.change.value == pytest.approx(651 / 688)
    assert [p.subject for p in found.runs[0].models] == ["original"]


def test_reports_without_targets_are_gated_model_by_model(full, run):
    plain = full.model_copy(update={"targets": ()})
    found = run(plain, changed(plain, "host/onnx-fp16", size={"raw": 3_000_000}), max_growth=1.1)
    assert [c.message.split(":")[0] for c in found.runs[0].checks if c.status == "fail"] == ["host/onnx-fp16"]
    assert len(found.runs[0].checks) == len(full.models) - 1


def test_what_else_changed_is_listed(full, run):
    other = remade(full, packages=full.provenance.packages | {"onnxruntime": "1.32.0"}, edgekit="0.2.0", seed=7)
    other = other.model_copy(update={"budget": full.budget.model_copy(update={"max_drop": 2.0})})
    (only,) = run(full, other).runs
    assert [(c.name, c.baseline, c.run) for c in only.versions] == [("edgekit", "0.1.0", "0.2.0"), ("onnxruntime", "1.31.1", "1.32.0")]
    assert [(c.name, c.baseline, c.run) for c in only.settings] == [("seed", "0", "7"), ("max_drop", "1.0", "2.0")]


def test_another_original_and_a_slower_original_are_noted(full, run, tmp_path):
    other = changed(full, "original", digest="9" * 64)
    worse = changed(other, CHOSEN, accuracy={"metrics": full.model(CHOSEN).accuracy.metrics | {"top1": 20.0}})
    found = run(full, worse, max_drop=1)
    assert any("originals differ" in note for note in found.runs[0].notes)
    assert found.exit_code == 1
    change = pair(found, CHOSEN).accuracy.change
    assert change.value == 20.0 - full.model(CHOSEN).accuracy.metrics["top1"]
    assert change.low < change.value < change.high
    slower = changed(full, "original", latency={"p50": interval(5.0, 4.9, 5.1)})
    (tmp_path / "slower.json").write_text(slower.to_json(), encoding="utf-8")
    found = compare([tmp_path / "run0", tmp_path / "slower.json"])
    assert found.runs[0].notes == ("the original itself took 1.21 times as long: machine, load or framework differ between the runs",)


def test_several_runs_are_each_compared_with_the_first(full, run):
    found = run(full, full, changed(full, CHOSEN, size={"raw": 9_000_000}), max_growth=1.1)
    assert [r.checks[0].status for r in found.runs] == ["pass", "fail"]
    assert found.status == "fail"


def test_without_gates_there_is_no_verdict(full, run):
    found = run(full, changed(full, CHOSEN, size={"raw": 9_000_000}))
    assert (found.status, found.exit_code) == (None, 0)


def test_gates_for_runs_that_share_nothing_are_an_error(full, run, tmp_path):
    bare = SAMPLES["bare_report"]()
    with pytest.raises(InputError, match="shares no target and no model"):
        run(full, bare, max_drop=1.0)
    assert compare([tmp_path / "run0", tmp_path / "run1"]).runs[0].models == ()


def test_wrong_input(full, tmp_path):
    (tmp_path / "report.json").write_text(full.to_json(), encoding="utf-8")
    (tmp_path / "broken.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="two runs at least"):
        compare([tmp_path])
    with pytest.raises(InputError, match="No such file"):
        compare([tmp_path, tmp_path / "nothing"])
    with pytest.raises(InputError, match="is not an edgekit report"):
        compare([tmp_path, tmp_path / "broken.json"])
    with pytest.raises(InputError, match="max_slowdown: Input should be greater than 0"):
        compare([tmp_path, tmp_path], max_slowdown=0)
