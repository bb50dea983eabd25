"""The whole way from checkpoint to verdict on a tiny network: what is written, what is remembered, and when a build fails."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

import edgekit
from edgekit.cli.main import main
from edgekit.core.machine import this_machine
from edgekit.core.report import Report, load_report
from edgekit.core.resources import bundled
from edgekit.reports._schema import FILE

QUICK = {"rounds": 3, "round_seconds": 0.01, "resamples": 200}


@pytest.fixture
def recipe(kit):
    """Write a recipe for the tiny graph that measures quickly; run it with ``edgekit compress recipe.yaml -o run``."""

    def write(**changes) -> Path:
        return kit.recipe(**{"name": "tiny", "model": str(kit.graph()), "measure": QUICK, **changes})

    return write


def compress(recipe: Path, *more: str, out: str = "run") -> int:
    return main(["compress", str(recipe), "-o", out, *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("formats", ["onnx", pytest.param("all", marks=pytest.mark.slow)])
def test_a_pytorch_checkpoint_becomes_measured_models(kit, formats, capfd):
    wished = ["--format", "onnx"] if formats == "onnx" else []
    path = kit.recipe(name="tiny", formats=None, measure=QUICK)
    assert compress(path, *wished) == 0
    report = load_report(kit.out)
    jsonschema.Draft202012Validator(json.loads(FILE.read_text())).validate(json.loads((kit.out / "report.json").read_text()))
    assert {"report.json", "report.md", "report.html", "junit.xml", "recipe.yaml"} <= {p.name for p in kit.out.iterdir()}
    original, *others = report.models
    assert (original.id, original.format, original.accuracy.samples, original.accuracy.change.value) == ("original", "torch", 60, 0)
    assert {m.format for m in others} == ({"onnx"} if formats == "onnx" else {"onnx", "openvino", "tflite"})
    for model in report.models:
        assert model.latency.p50.value > 0
        assert model.memory.peak_mb > model.memory.runtime_mb > 0
        assert model.size.raw > model.size.zstd > 0
        assert (model.agreement is None) == (model is original)
    exported = [m for m in others if m.role == "export"]
    assert all(m.agreement.max_error < 1e-4 for m in exported)
    (target,) = report.targets
    delivered = report.model(target.chosen)
    assert (kit.out / delivered.file).is_file()
    assert [m.file for m in report.models if m.file] == [delivered.file]
    assert "top1" in capfd.readouterr().out


def test_the_delivered_model_is_the_one_that_was_measured(kit, recipe):
    assert compress(recipe(precisions=["int8"])) == 0
    report = load_report(kit.out)
    (target,) = report.targets
    assert target.chosen == "host/onnxruntime-int8-static"
    file = kit.out / report.model(target.chosen).file
    assert {node.op_type for node in onnx.load(file).graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    onnx.checker.check_model(onnx.load(file), full_check=True)
    session = onnxruntime.InferenceSession(file)
    with np.load(kit.folder / "tiny.npz") as data:
        images, labels = data["x"][40:100].transpose(0, 3, 1, 2).astype(np.float32) / 255, data["y"][40:100]
    right = [session.run(None, {"image": image[None]})[0].argmax() == label for image, label in zip(images, labels, strict=True)]
    assert 100 * float(np.mean(right)) == pytest.approx(report.model(target.chosen).accuracy.metrics["top1"])
    plan = json.loads((kit.out / "host" / "plan.json").read_text())
    assert {layer["layer"]: layer["precision"] for layer in plan}["product"] == "int8-static"


def test_a_second_run_reuses_every_stage_and_writes_the_same_bytes(kit, recipe):
    first = edgekit.compress(recipe(), out=kit.out)
    before = contents(kit.out)
    second = edgekit.compress(recipe(), out=kit.out)
    assert not any(stage.cached for stage in first.stages)
    assert all(stage.cached for stage in second.stages)
    assert [s.key for s in second.stages] == [s.key for s in first.stages]
    assert contents(kit.out) == before


@pytest.mark.parametrize("min_sqnr", [None, 1.0])
def test_a_store_shared_by_machines_keeps_what_each_kind_of_cpu_computed(kit, recipe, monkeypatch, min_sqnr):
    edgekit.compress(recipe(quantization={"min_sqnr": min_sqnr}), out=kit.out)
    other = this_machine().model_copy(update={"features": ("avx2", "avx512f", "avx512_vnni")})
    monkeypatch.setattr("edgekit.stages.this_machine", lambda: other)
    report = edgekit.compress(recipe(quantization={"min_sqnr": min_sqnr}), out=kit.out)
    cached = {stage.stage: stage.cached for stage in report.stages}
    assert (cached["quantize"], cached["evaluate"]) == (min_sqnr is None, False)


def test_python_gets_the_report_that_is_written(kit, recipe):
    report = edgekit.compress(str(kit.graph()), data=str(kit.data), formats=["onnx"], measure=False, out=kit.out)
    assert isinstance(report, Report)
    assert report.to_json() == (kit.out / "report.json").read_text()
    assert (report.status, report.exit_code) == ("not measured", 0)


def test_the_resolved_recipe_repeats_the_run_from_anywhere(kit, monkeypatch):
    (kit.folder / "deep").mkdir()
    kit.file("deep/mine.yaml", (Path(edgekit.__file__).parent.parent / "targets" / "x86-avx2.yaml").read_text().replace("x86-avx2", "mine"))
    kit.recipe(model={"path": "tiny.pth", "arch": "tiny_arch.py:tiny"}, data="tiny-set.yaml", targets=["host", "deep/mine.yaml"])
    (kit.folder / "elsewhere").mkdir()
    monkeypatch.chdir(kit.folder / "elsewhere")
    assert main(["compress", "../recipe.yaml", "-o", "run"]) == 0
    assert main(["compress", "run/recipe.yaml", "-o", "../again"]) == 0
    assert contents(Path("run")) == contents(kit.folder / "again")
    assert {"host", "mine"} <= {p.name for p in Path("run").iterdir()}


def test_another_store_gives_the_same_bytes_but_for_what_is_measured(kit, monkeypatch, tmp_path_factory):
    arguments = kit.compress(kit.weights, arch=kit.arch)
    assert main(arguments) == 0
    first = contents(kit.out)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path_factory.mktemp("another")))
    assert main(arguments) == 0
    assert contents(kit.out) == first


def losing(kit) -> Path:
    """A recipe whose int8 loses accuracy for certain: one weight scale for a tensor in which one channel is a thousand times larger."""

    def tilt(model) -> None:
        weight = np.array(onnx.numpy_helper.to_array(model.graph.initializer[0]))
        weight[:, 0] = 2000 * (weight[:, 0] - weight[:, 0].mean())
        weight[:, 1] += 0.02
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "weight"))

    graph = kit.graph("tilted.onnx", tilt)
    session = onnxruntime.InferenceSession(graph)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (400, 8, 8, 1), dtype=np.uint8)
    scores = session.run(None, {"image": images.transpose(0, 3, 1, 2).astype(np.float32) / 255})[0]
    labels = scores.argmax(1)
    np.savez(kit.folder / "tiny.npz", x=images, y=labels)
    splits = {"calibration": {"rows": [0, 100]}, "evaluation": {"rows": [100, 400]}}
    return kit.recipe(
        name="losing",
        model=str(graph),
        data=str(kit.dataset(splits=splits)),
        precisions=["int8"],
        quantization={"granularity": "tensor"},
        measure=QUICK,
    )


def test_lost_accuracy_fails_the_build_and_still_writes_everything(kit, capfd):
    assert compress(losing(kit), "--max-drop", "0") == 1
    report = load_report(kit.out)
    (target,) = report.targets
    assert (report.status, target.status) == ("fail", "fail")
    drop = next(check for check in target.checks if check.name == "max_drop")
    assert drop.value > 10
    assert drop.low > 0
    assert (kit.out / report.model(target.chosen).file).is_file()
    said = capfd.readouterr()
    assert "classes lose" in said.out or "significantly worse on" in said.out
    assert "error:" not in said.err
    cases = ElementTree.parse(kit.out / "junit.xml").findall(".//failure")
    assert any("top1" in (case.get("message") or "") for case in cases)


@pytest.mark.parametrize(
    ("limit", "check"),
    [(["--max-size", "0.0001"], "max_size"), (["--max-latency", "0.000001"], "max_latency"), (["--min-speedup", "50"], "min_speedup")],
)
def test_every_limit_can_fail_a_build(kit, recipe, limit, check):
    assert compress(recipe(precisions=["int8"]), "--max-drop", "100", *limit) == 1
    (target,) = load_report(kit.out).targets
    assert {c.name for c in target.checks if c.status == "fail"} == {check}


def test_strict_fails_what_is_not_proven(kit, recipe):
    assert compress(recipe(), "--no-measure") == 0
    assert compress(recipe(), "--no-measure", "--strict") == 1
    report = load_report(kit.out)
    assert (report.status, report.budget.strict) == ("not measured", True)


def test_two_targets_in_one_run_and_a_board_that_is_not_here(kit, recipe, capfd):
    assert compress(recipe(), "--target", "host", "--target", "jetson-orin-nano") == 0
    report = load_report(kit.out)
    host, jetson = report.targets
    chosen = report.model(jetson.chosen)
    assert (chosen.latency.basis, chosen.accuracy.basis, chosen.precision) == ("not measured", "estimated", "int8-static")
    assert "jetson-orin-nano is not at hand" in chosen.latency.reason
    exactly = "judged with int8 products that add up exactly, as the target's kernels add them and this CPU's would not"
    assert (exactly in chosen.notes) == this_machine().saturates
    assert not any(exactly in model.notes for model in report.models if model.target == "host" or model.precision == "fp32")
    assert "trtexec --onnx=model.onnx " in jetson.command
    assert "image:1x1x8x8" in jetson.command
    graph = onnx.load(kit.out / "jetson-orin-nano" / "model.onnx")
    zeros = [onnx.numpy_helper.to_array(i) for i in graph.graph.initializer if "zero_point" in i.name]
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert report.model(host.chosen).latency.basis == "measured"
    assert jetson.command in capfd.readouterr().out


def test_each_target_is_raced_against_its_own_export_and_an_original_with_its_threads(kit, recipe):
    """Two targets of the same backends: one that is not at hand, and one with more threads than this machine's profile."""
    profile = yaml.safe_load((bundled("targets") / "x86-avx2.yaml").read_text())
    elsewhere = kit.file("elsewhere.yaml", yaml.safe_dump({**profile, "name": "elsewhere", "features": ["sme"]}))
    wide = kit.file("wide.yaml", yaml.safe_dump({**profile, "name": "wide", "threads": 2}))
    profiles = [word for target in (elsewhere, wide, "host") for word in ("--target", str(target))]
    assert compress(recipe(formats=["onnx"], precisions=["fp32", "int8"]), *profiles, "--max-drop", "100") == 0
    report = load_report(kit.out)
    assert report.model("elsewhere/onnxruntime-fp32").latency.basis == "not measured"
    for name in ("host", "wide"):
        assert report.model(f"{name}/onnxruntime-fp32").latency.speedup_runtime.value == 1
        assert report.model(f"{name}/onnxruntime-int8-static").latency.speedup_runtime is not None
    threads = report.models[0].latency.circumstances["threads"]
    for model in report.models:
        if model.latency.basis == "measured":
            assert (model.latency.speedup_original is None) == (model.latency.circumstances["threads"] != threads)


def test_a_task_without_labels_judges_by_the_originals_outputs(kit, recipe):
    data = kit.dataset("bare.yaml", read={"use": "npz", "path": "tiny.npz", "inputs": {"image": "x"}}, classes=None)
    assert compress(recipe(task="generic", data=str(data))) == 0
    report = load_report(kit.out)
    assert (report.task, report.models[0].accuracy.metrics["cosine"]) == ("generic", pytest.approx(100))
    assert report.model("host/onnxruntime-int8-static").accuracy.metrics["cosine"] > 99


def test_a_graph_with_a_fixed_batch_of_one_is_taken(kit, recipe):
    def fix(model) -> None:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 1

    assert compress(recipe(model=str(kit.graph("one.onnx", fix)))) == 0
    assert len(load_report(kit.out).models) == 3


def test_weights_beside_a_graph_travel_with_it(kit, recipe):
    graph = kit.graph("big.onnx", save_as_external_data=True, location="weights.data", size_threshold=0)
    assert compress(recipe(model=str(graph), precisions=["fp32"])) == 0
    assert (kit.out / "host" / "weights.data").read_bytes() == (graph.parent / "weights.data").read_bytes()
    onnxruntime.InferenceSession(kit.out / "host" / "model.onnx")


def test_the_recipe_can_be_printed_and_used(kit, recipe, capfd):
    path = recipe(budget={"max_drop": 3})
    assert compress(path, "--print-recipe", "--max-drop", "2", "--seed", "7") == 0
    said = capfd.readouterr()
    assert said.err == ""
    assert not kit.out.exists()
    again = kit.file("again/printed.yaml", said.out)
    assert compress(again, "--print-recipe") == 0
    assert capfd.readouterr().out == said.out
    assert "max_drop: 2.0" in said.out
    assert "seed: 7" in said.out
    assert compress(again, "--print-recipe", "--json") == 0
    assert json.loads(capfd.readouterr().out) == yaml.safe_load(said.out)
    assert compress(again, "--no-measure") == 0


def test_json_is_the_report_and_nothing_else(kit, recipe, capfd):
    assert compress(recipe(), "--json") == 0
    said = capfd.readouterr()
    assert json.loads(said.out) == json.loads((kit.out / "report.json").read_text())
    assert said.out == (kit.out / "report.json").read_text()


def test_the_smallest_can_be_asked_for(kit, recipe):
    assert compress(recipe(), "--smallest", "--max-drop", "100") == 0
    report = load_report(kit.out)
    delivered = report.model(report.targets[0].chosen)
    judged = [m for m in report.models if m.target == "host" and m.status != "fail"]
    assert delivered.size.raw <= 1.01 * min(m.size.raw for m in judged)


def test_validate_and_benchmark_take_what_compress_made(kit, recipe, capfd):
    original = kit.graph("original.onnx")
    assert compress(recipe(precisions=["int8"])) == 0
    made = str(kit.out / "host" / "model.onnx")
    capfd.readouterr()
    assert (
        main(["validate", made, "--reference", str(original), "--data", str(kit.data), "--max-drop", "100", "--json", "-o", "judged"]) == 0
    )
    judged = json.loads(capfd.readouterr().out)
    assert judged["models"][1]["accuracy"] == json.loads((kit.folder / "judged" / "report.json").read_text())["models"][1]["accuracy"]
    assert judged["models"][1]["digest"] == load_report(kit.out).model("host/onnxruntime-int8-static").digest
    assert main(["benchmark", str(original), made, "--rounds", "3", "--json"]) == 0
    raced = json.loads(capfd.readouterr().out)
    assert [m["latency"]["basis"] for m in raced["models"]] == ["measured", "measured"]
    assert [m["latency"]["speedup_runtime"] for m in raced["models"]] == [None, None]
    assert main(["benchmark", made, "--rounds", "3", "--json"]) == 0
    (alone,) = json.loads(capfd.readouterr().out)["models"]
    assert alone["latency"]["p50"]["value"] > 0
    assert alone["memory"]["peak_mb"] > 0


@pytest.mark.slow
def test_naive_int8_of_mobilenet_is_caught_and_its_worst_classes_named(data, tmp_path, capfd):
    path = Path(edgekit.__file__).parent.parent / "benchmarks" / "recipes" / "mobilenet_v1_naive.yaml"
    assert compress(path, out=str(tmp_path / "run")) == 1
    report = load_report(tmp_path / "run")
    (target,) = report.targets
    drop = next(check for check in target.checks if check.name == "max_drop")
    assert drop.status == "fail"
    assert 14 < drop.value < 24
    worst = sorted(report.model(target.chosen).accuracy.per_class, key=lambda c: c.change)[0]
    assert "significantly worse on" in drop.message or "classes lose, most of all" in drop.message
    assert worst.change < -20
    assert (tmp_path / "run" / report.model(target.chosen).file).is_file()
    assert drop.message.split(";")[0] in capfd.readouterr().out
