from __future__ import annotations

from typing import Any

import pytest

from edgekit.candidates import Candidate, exportable, plan_candidates
from edgekit.core.errors import RecipeError, TargetError
from edgekit.core.plugin import Task
from edgekit.core.recipe import Recipe
from edgekit.core.registry import create
from edgekit.core.schema import parse
from edgekit.core.target import Backend, Target, load_target

IMAGES, TEXTS = (create(Task, name, "task") for name in ("image_classification", "text_classification"))


def plan(targets: list[str | Target], *, here: bool = True, task: Task = IMAGES, **wishes: Any) -> list[Candidate]:
    recipe = parse(Recipe, {"schema": 1, "model": "x.onnx", "data": {}, **wishes}, "test")
    loaded = [load_target(target) if isinstance(target, str) else target for target in targets]
    return plan_candidates(recipe, loaded, task, measurable=[here] * len(loaded))


def ids(candidates: list[Candidate]) -> list[str]:
    return [candidate.id for candidate in candidates]


def test_a_target_at_hand_gets_every_runtime_and_what_may_pay_there() -> None:
    assert ids(plan(["x86-amx"])) == [
        "x86-amx/openvino-fp32",
        "x86-amx/openvino-bf16",
        "x86-amx/openvino-int8-static",
        "x86-amx/onnxruntime-fp32",
        "x86-amx/onnxruntime-int8-static",
        "x86-amx/litert-fp32",
        "x86-amx/litert-int8-static",
    ]


def test_a_target_that_is_elsewhere_gets_its_preferred_runtime() -> None:
    assert ids(plan(["x86-amx"], here=False)) == ["x86-amx/openvino-fp32", "x86-amx/openvino-int8-static"]
    assert ids(plan(["jetson-orin-nano"], here=False)) == ["jetson-orin-nano/tensorrt-fp32", "jetson-orin-nano/tensorrt-int8-static"]


def test_a_target_without_int8_is_offered_fp16() -> None:
    assert ids(plan(["jetson-nano"], here=False)) == ["jetson-nano/tensorrt-fp32", "jetson-nano/tensorrt-fp16"]


def test_wished_formats_and_runtimes_are_kept_to() -> None:
    assert {c.backend.runtime for c in plan(["x86-amx"], formats=["onnx"])} == {"onnxruntime"}
    assert {c.backend.runtime for c in plan(["x86-amx"], runtimes=["litert", "openvino"])} == {"openvino", "litert"}
    assert [c.backend.format for c in plan(["x86-amx"], here=False, formats=["tflite", "onnx"], precisions=["fp32"])] == ["tflite", "onnx"]


def test_a_runtime_on_request_is_used_only_when_it_is_named() -> None:
    assert "tflite_runtime" not in {c.backend.runtime for c in plan(["raspberry-pi-4"])}
    assert {c.backend.runtime for c in plan(["raspberry-pi-4"], runtimes=["tflite_runtime"])} == {"tflite_runtime"}


def test_without_fp32_among_the_wishes_the_export_is_a_yardstick_only() -> None:
    candidates = plan(["x86-amx"], formats=["onnx"], precisions=["int8"])
    assert [(c.precision, c.role, c.wanted) for c in candidates] == [("fp32", "export", False), ("int8-static", "candidate", True)]
    assert [c.wanted for c in plan(["x86-amx"], formats=["onnx"], precisions=["fp32", "int8"])] == [True, True]


@pytest.mark.parametrize(("kind", "precision"), [("onnx", "int8-dynamic"), ("tflite", "int8-dynamic"), ("openvino", "int8-static")])
def test_int8_of_texts_means_what_pays_in_each_format(kind: str, precision: str) -> None:
    (candidate,) = (c for c in plan(["x86-amx"], task=TEXTS, formats=[kind], precisions=["int8"]) if c.wanted)
    assert (candidate.precision, candidate.quantizer) == (precision, f"{kind}_{precision.replace('-', '_')}")


def test_bf16_is_an_execution_of_the_float_model() -> None:
    (candidate,) = (c for c in plan(["x86-amx"], precisions=["bf16"]) if c.wanted)
    assert (candidate.backend.runtime, candidate.quantizer, candidate.execution) == ("openvino", None, "bf16")


def test_a_precision_that_no_target_computes_is_refused_and_not_dropped() -> None:
    with pytest.raises(TargetError, match=r"bf16 is computed by none of the targets \(x86-avx2\)"):
        plan(["x86-avx2"], precisions=["int8", "bf16"])
    wanted = [c for c in plan(["x86-avx2", "x86-amx"], precisions=["int8", "bf16"]) if c.wanted and c.precision == "bf16"]
    assert {c.target.name for c in wanted} == {"x86-amx"}


def test_int4_is_made_where_it_is_asked_for_and_where_the_runtime_has_it() -> None:
    assert not any(c.precision == "int4" for c in plan(["x86-avx2", "raspberry-pi-4"]))
    wanted = [(c.backend.runtime, c.quantizer) for c in plan(["x86-avx2"], precisions=["int4"]) if c.wanted]
    assert wanted == [("openvino", "openvino_int4"), ("onnxruntime", "onnx_int4"), ("litert", "tflite_int4")]
    with pytest.raises(TargetError, match="int4 in none of tflite_runtime"):
        plan(["x86-avx2"], runtimes=["tflite_runtime"], precisions=["int4"])


def test_a_wish_that_stands_twice_or_under_two_names_is_made_once() -> None:
    wished = ["int8", "int8-static", "int8"]
    assert ids(plan(["x86-amx"], formats=["onnx", "onnx"], precisions=wished)) == [
        "x86-amx/onnxruntime-fp32",
        "x86-amx/onnxruntime-int8-static",
    ]


def test_names_are_unique_over_several_targets() -> None:
    names = ids(plan(["x86-amx", "x86-avx2", "jetson-orin-nano", "raspberry-pi-4"]))
    assert len(set(names)) == len(names) > 12


def test_after_passes_the_yardstick_is_the_checkpoint_before_them() -> None:
    recipe = parse(Recipe, {"schema": 1, "model": "x.onnx", "data": {}, "passes": ["any"], "formats": ["onnx"]}, "test")
    candidates = plan_candidates(recipe, [load_target("x86-amx")], IMAGES, measurable=[True])
    assert [(c.id, c.role, c.passed) for c in candidates] == [
        ("x86-amx/onnxruntime-fp32", "export", False),
        ("x86-amx/onnxruntime-fp32+passes", "candidate", True),
        ("x86-amx/onnxruntime-int8-static+passes", "candidate", True),
    ]


@pytest.mark.parametrize(
    ("target", "wishes", "error", "words"),
    [
        (
            "jetson-nano",
            {"precisions": ["int8"]},
            TargetError,
            "jetson-nano computes int8 in none of tensorrt (hint: use one of: fp16, fp32)",
        ),
        ("x86-amx", {"formats": ["onxx"]}, RecipeError, "unknown format 'onxx' (hint: did you mean 'onnx'?)"),
        ("x86-amx", {"formats": ["torch"]}, RecipeError, "unknown format 'torch'"),
        ("jetson-orin-nano", {"formats": ["tflite"]}, TargetError, "jetson-orin-nano does not run tflite"),
        ("x86-amx", {"runtimes": ["tensorrt"]}, TargetError, "x86-amx does not run tensorrt"),
        ("x86-amx", {"runtimes": ["litert"], "formats": ["onnx"]}, TargetError, "x86-amx runs onnx in none of the wanted runtimes"),
        ("x86-amx", {"formats": ["tflite"], "precisions": ["bf16"]}, TargetError, "computes bf16 in none of litert"),
    ],
)
def test_what_a_target_can_not_do_is_refused(target: str, wishes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        plan([target], **wishes)
    assert words in str(caught.value)


def test_a_format_that_only_a_runtime_on_request_loads_must_be_asked_for_by_runtime() -> None:
    target = load_target("x86-amx")
    hidden = tuple(b.model_copy(update={"on_request": True}) if b.format == "tflite" else b for b in target.backends)
    shy = target.model_copy(update={"backends": hidden})
    assert isinstance(shy.backends[0], Backend)
    for here in (True, False):
        with pytest.raises(TargetError, match=r"runs tflite in none of .*litert \(tflite, on request\)"):
            plan([shy], here=here, formats=["tflite", "onnx"])
    assert {c.backend.runtime for c in plan([shy], formats=["tflite"], runtimes=["litert"])} == {"litert"}


def test_formats_that_can_be_delivered() -> None:
    assert exportable() == ["onnx", "openvino", "tflite"]
