"""Reports as real runs give them, for the tests of everything that reads a report; made, not measured."""

from __future__ import annotations

import math
import random
from typing import Any

from edgekit.core.machine import Machine
from edgekit.core.recipe import Budget
from edgekit.core.report import (
    Accuracy,
    Agreement,
    Check,
    ClassChange,
    Interval,
    Latency,
    Memory,
    ModelResult,
    Provenance,
    Report,
    Size,
    StageRecord,
    TargetResult,
)

HOSTILE = "<script>alert('x')</script> \"quoted\" & ]]> ünïcödé 漢字 | `tick` *star* _low_ [a](javascript:b) $x$ \x1b[31m\nline"
CLASSES = [
    "goldfish", "great white shark", "tench", "box turtle", "green mamba", "black widow", "flamingo", "koala", "chambered nautilus",
    "king crab", "pug", "Newfoundland", "tabby cat", "Persian cat", "cougar", "ladybug", "monarch butterfly", "sea slug",
    "wood rabbit", "abacus", "acoustic guitar", "espresso", "lemon", "daisy"
]  # fmt: skip
MACHINE = Machine(
    cpu="Intel(R) Xeon(R) Processor @ 2.10GHz",
    architecture="x86_64",
    features=("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16"),
    cores=2,
    memory_mb=7936,
    system="Linux 6.1.0",
    python="3.11.2",
)
PACKAGES = {"torch": "2.13.0", "onnxruntime": "1.31.1", "openvino": "2026.4.1", "nncf": "3.4.0", "ai-edge-litert": "2.3.0"}
SAMPLES = 500
ORIGINAL_TOP1 = 51.6
ORIGINAL_MS = 4.14


def interval(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def accuracy(top1: float, *, half: float = 1.4, basis: str = "measured", classes: bool = False, seed: int = 0) -> Accuracy:
    change = round(top1 - ORIGINAL_TOP1, 4)
    return Accuracy(
        basis=basis,  # type: ignore[arg-type]
        samples=SAMPLES,
        metrics={"top1": top1, "top5": min(99.0, top1 + 24.2)},
        primary="top1",
        change=interval(change, half if change else 0.0),
        p_value=1.0 if not change else max(1e-6, math.exp(-abs(change) * 1.5)),
        changed=abs(change) * 2.4 + 1.2 if change else 0.0,
        per_class=class_changes(change, seed) if classes else (),
        per_slice={"light": slices(change)} if classes else {},
        circumstances={"runtime": "onnxruntime", "version": "1.31.1", "threads": 1},
    )


def class_changes(mean: float, seed: int) -> tuple[ClassChange, ...]:
    draw = random.Random(seed)
    found = []
    for index, name in enumerate(CLASSES):
        n = 14 + (index * 7) % 12
        before = draw.randint(n // 3, n - 2)
        lost = max(-2, min(before, round(draw.gauss(-mean * n / 70, 1.3))))
        found.append(
            ClassChange(
                name=name,
                samples=n,
                original=100 * before / n,
                candidate=100 * (before - lost) / n,
                change=-100 * lost / n,
                low=-100 * lost / n - 22.0,
                high=min(100.0, -100 * lost / n + 18.0),
                significant=lost >= 8,
            )
        )
    return tuple(found)


def slices(mean: float) -> tuple[ClassChange, ...]:
    day = ClassChange(name="day", samples=310, original=54.0, candidate=54.0 + mean, change=mean, significant=False)
    return day, ClassChange(name="night", samples=190, original=47.7, candidate=47.7 + 2 * mean, change=2 * mean, significant=mean < -5)


def latency(p50: float, export: float | None, *, seed: int = 0) -> Latency:
    draw = random.Random(seed)
    samples = sorted(p50 * math.exp(draw.gauss(0, 0.02)) * (1 + (draw.random() < 0.05) * draw.random() * 0.4) for _ in range(400))
    return Latency(
        basis="measured",
        p50=interval(p50, p50 * 0.012),
        p90=interval(samples[360], samples[360] * 0.02),
        p99=interval(samples[396], samples[396] * 0.06),
        runs=2412,
        rounds=10,
        warmup_runs=57,
        speedup_runtime=None if export is None else interval(export / p50, export / p50 * 0.02),
        speedup_original=interval(ORIGINAL_MS / p50, ORIGINAL_MS / p50 * 0.02),
        samples_ms=tuple(round(s, 5) for s in samples),
        circumstances={"runtime": "onnxruntime", "version": "1.31.1", "precision": "f32", "threads": 1, "load": 0.4},
    )


def unmeasured(reason: str) -> Latency:
    return Latency(basis="not measured", reason=reason)


def model(
    name: str, role: str, form: str, runtime: str, precision: str, top1: float, p50: float | None, kb: int, **more: Any
) -> ModelResult:
    seed = sum(map(ord, name))
    target = name.partition("/")[0] if "/" in name else None
    export = more.pop("export", None)
    basis = more.pop("basis", "measured")
    reason = more.pop("reason", "needs the device")
    given: dict[str, Any] = {
        "accuracy": accuracy(top1, classes=role == "candidate", seed=seed, basis=basis),
        "latency": unmeasured(reason) if p50 is None else latency(p50, export, seed=seed),
        "memory": Memory(basis="not measured") if p50 is None else Memory(basis="measured", peak_mb=80 + kb / 400, runtime_mb=71.0),
        "size": Size(raw=kb * 1000, zstd=kb * 880),
        "agreement": Agreement(
            samples=SAMPLES, cosine=1 - (ORIGINAL_TOP1 - top1) / 900, max_error=0.4 + abs(top1 - ORIGINAL_TOP1), kl=0.01
        ),
        "digest": f"{seed:064x}",
    } | more
    return ModelResult(id=name, role=role, target=target, format=form, runtime=runtime, precision=precision, **given)  # type: ignore[arg-type]


SLOWER = ("slower than its own export: int8 does not pay in this runtime",)
MIXED = {"int8": 26, "fp32": 2}
KEPT = ("26 layers in int8, 2 kept in float",)
CANDIDATE, ORT = "candidate", "onnxruntime"
HOST = (
    # name, role, format, runtime, precision, top-1, p50, KB, export's p50, layers, status, notes
    ("host/onnx-fp32", "export", "onnx", ORT, "fp32", 51.6, 1.08, 1974, 1.08, {}, "pass", ()),
    ("host/openvino-fp32", "export", "openvino", "openvino", "fp32", 51.6, 0.982, 1946, 0.982, {}, "pass", ()),
    ("host/tflite-fp32", "export", "tflite", "litert", "fp32", 51.6, 1.03, 1924, 1.03, {}, "pass", ()),
    ("host/onnx-int8-static", CANDIDATE, "onnx", ORT, "int8-static", 49.0, 1.41, 671, 1.08, {"int8": 26, "fp32": 2}, "fail", SLOWER),
    ("host/onnx-fp16", CANDIDATE, "onnx", ORT, "fp16", 51.6, 1.31, 1010, 1.08, {"fp16": 28}, "fail", SLOWER),
    ("host/openvino-bf16", CANDIDATE, "openvino", "openvino", "bf16", 51.2, 0.769, 1946, 0.982, {"bf16": 28}, "pass", ()),
    ("host/openvino-int8-static", CANDIDATE, "openvino", "openvino", "int8-static", 50.8, 0.876, 690, 0.982, {"int8": 28}, "pass", ()),
    ("host/tflite-int8-static", CANDIDATE, "tflite", "litert", "int8-static", 38.8, 1.42, 651, 1.03, {"int8": 28}, "fail", SLOWER),
    ("host/tflite-int8-dynamic", CANDIDATE, "tflite", "litert", "int8-dynamic", 51.0, 1.12, 655, 1.03, MIXED, "inconclusive", KEPT),
    ("host/tflite-fp16", CANDIDATE, "tflite", "litert", "fp16", 51.6, 1.04, 970, 1.03, {"fp16": 28}, "inconclusive", ()),
)  # fmt: skip
PI, ORIN = "raspberry-pi-4", "jetson-orin-nano"
UNSURE = "inconclusive"
DEVICES = (
    (f"{PI}/tflite-fp32", "export", "tflite", "litert", "fp32", 51.6, None, 1924, None, {}, "not measured", ()),
    (f"{PI}/tflite-int8-static", CANDIDATE, "tflite", "litert", "int8-static", 50.2, None, 651, None, {"int8": 24, "fp32": 4}, UNSURE, ()),
    (f"{ORIN}/onnx-int8-static", CANDIDATE, "onnx", "tensorrt", "int8-static", 51.0, None, 688, None, {"int8": 27, "fp16": 1}, "pass", ()),
)  # fmt: skip
DELIVERED = {
    "host/openvino-bf16": "host/mobilenetv1.xml",
    f"{PI}/tflite-int8-static": f"{PI}/mobilenetv1.tflite",
    f"{ORIN}/onnx-int8-static": f"{ORIN}/mobilenetv1.onnx",
}
MISSING = {PI: "needs a Raspberry Pi 4: emulation shows accuracy, never latency", ORIN: "needs a Jetson Orin Nano with TensorRT"}


def original() -> ModelResult:
    return model("original", "original", "module", "pytorch", "fp32", 51.6, 4.14, 1904)


def models(rows: tuple[tuple[Any, ...], ...]) -> list[ModelResult]:
    found = []
    for *facts, export, layers, status, notes in rows:
        target = facts[0].partition("/")[0]
        more = {"reason": MISSING[target], "basis": "emulated" if target == PI else "estimated"} if target in MISSING else {}
        found.append(model(*facts, export=export, layers=layers, status=status, notes=notes, file=DELIVERED.get(facts[0]), **more))
    return found


def check(name: str, status: str, limit: float, value: float | None, half: float, unit: str, message: str) -> Check:
    low, high = (None, None) if value is None else (value - half, value + half)
    return Check(name=name, status=status, limit=limit, value=value, low=low, high=high, unit=unit, message=message)  # type: ignore[arg-type]


def targets() -> tuple[TargetResult, ...]:
    return (
        TargetResult(
            target="host",
            title="this machine (Intel(R) Xeon(R) Processor @ 2.10GHz; kernels of x86-amx)",
            chosen="host/openvino-bf16",
            reason="the fastest of 10 models that hold the budget",
            status="pass",
            checks=(
                check("max_drop", "pass", 1.0, 0.4, 0.5, "points", "loses 0.4 points [-0.1, 0.9]"),
                check("min_speedup", "pass", 1.2, 1.28, 0.03, "x", "1.28 times as fast as its export"),
            ),
            command="benchmark_app -m mobilenetv1.xml -hint latency -nthreads 1",
        ),
        TargetResult(
            target="raspberry-pi-4",
            title="Raspberry Pi 4 Model B (Cortex-A72)",
            chosen="raspberry-pi-4/tflite-int8-static",
            reason="the smallest, as no latency could be measured",
            status="inconclusive",
            checks=(
                check("max_drop", "inconclusive", 1.0, 1.4, 1.4, "points", "loses 1.4 points [0.0, 2.8]; about 2,100 samples would tell"),
                check("min_speedup", "not measured", 1.2, None, 0, "x", "needs a Raspberry Pi 4"),
            ),
            command="benchmark_model --graph=mobilenetv1.tflite --num_threads=1",
        ),
        TargetResult(
            target="jetson-orin-nano",
            title="NVIDIA Jetson Orin Nano 8 GB",
            chosen="jetson-orin-nano/onnx-int8-static",
            reason="the only candidate",
            status="pass",
            checks=(
                check("max_drop", "pass", 1.0, 0.6, 0.4, "points", "loses 0.6 points [0.2, 1.0]"),
                check("min_speedup", "not measured", 1.2, None, 0, "x", "needs a Jetson Orin Nano"),
            ),
            command="trtexec --onnx=mobilenetv1.onnx --int8 --fp16 --saveEngine=mobilenetv1.engine --shapes=input:1x3x224x224",
        ),
    )


def provenance() -> Provenance:
    return Provenance(
        edgekit="0.1.0",
        packages=PACKAGES,
        machine=MACHINE,
        source={"plugin": "pytorch", "path": "mobilenetv1_x0.25.safetensors", "sha256": "ab" * 32, "nesting": "state_dict"},
        calibration={"name": "coco-photos", "split": "calibration", "samples": 300, "seed": 0, "digest": "cd" * 32},
        evaluation={"name": "imagenet-samples", "split": "all", "samples": SAMPLES, "seed": 0, "digest": "ef" * 32},
        seed=0,
    )


def stages() -> tuple[StageRecord, ...]:
    told = (
        ("fetch", "sources.pytorch"),
        ("export", "exporters.onnx"),
        ("quantize", "quantizers.onnx_int8_static"),
        ("evaluate", "evaluation.accuracy"),
        ("benchmark", "evaluation.latency"),
    )
    return tuple(StageRecord(stage=s, plugin=p, key=f"{i:064x}") for i, (s, p) in enumerate(told))


def full_report(**changes: Any) -> Report:
    """Three targets: one measured on eleven models, one emulated and inconclusive, one not measured."""
    content: dict[str, Any] = {
        "name": "mobilenetv1",
        "status": "inconclusive",
        "summary": "2 of 3 targets hold the budget; raspberry-pi-4 needs about 2,100 samples to tell.",
        "task": "image_classification",
        "budget": Budget(max_drop=1.0, min_speedup=1.2),
        "models": (original(), *models(HOST), *models(DEVICES)),
        "targets": targets(),
        "notes": ("Calibrated on photos without labels; every labelled sample was kept for the verdict.",),
        "stages": stages(),
        "provenance": provenance(),
    }
    return Report(**content | changes)


def failing_report(**changes: Any) -> Report:
    """One target, where naive int8 loses eighteen points."""
    facts = ("host/onnx-int8-static", "candidate", "onnx", "onnxruntime", "int8-static", 33.4, 1.41, 671)
    naive = model(*facts, export=1.08, layers={"int8": 28}, status="fail", file="host/mobilenetv1.onnx")
    target = TargetResult(
        target="host",
        title="this machine (Intel(R) Xeon(R) Processor @ 2.10GHz; kernels of x86-amx)",
        chosen=naive.id,
        reason="the only candidate; it does not hold the budget",
        status="fail",
        checks=(
            check("max_drop", "fail", 1.0, 18.2, 3.6, "points", "loses 18.2 points [14.6, 21.8] where 1.0 may be lost"),
            check("max_class_drop", "fail", 10.0, 61.5, 20, "points", "class 'goldfish' loses 61.5 points"),
        ),
    )
    shown = (original(), *models(HOST[:1]), naive)
    summary = "host: onnx-int8-static loses 18.2 points of top1 where 1.0 may be lost."
    return full_report(**{"status": "fail", "summary": summary, "targets": (target,), "models": shown, "notes": ()} | changes)


def bare_report(**changes: Any) -> Report:
    """The least a report can hold: no target, no measurement, no data."""
    lone = ModelResult(id="m", role="candidate", format="onnx", runtime="onnxruntime", precision="fp32", digest="0" * 64)
    empty = provenance().model_copy(update={"calibration": None, "evaluation": None, "source": {}, "packages": {}})
    content = {"name": "bare", "status": "not measured", "summary": "Converted and verified; nothing was measured.", "task": "generic"}
    return Report(**content | {"budget": Budget(), "models": (lone,), "targets": (), "provenance": empty} | changes)


def hostile_report() -> Report:
    """Every text a user can choose tries to break out of the rendering."""
    worst = ClassChange(name=HOSTILE, samples=9, original=80.0, candidate=10.0, change=-70.0, significant=True)
    evil = accuracy(33.0, classes=True).model_copy(
        update={"per_class": (worst,), "per_slice": {HOSTILE: (worst,)}, "circumstances": {HOSTILE: HOSTILE}}
    )
    bad = model(
        "host/onnx-int8",
        "candidate",
        HOSTILE,
        HOSTILE,
        HOSTILE,
        33.0,
        1.2,
        600,
        accuracy=evil,
        layers={HOSTILE: 3},
        notes=(HOSTILE,),
        file=HOSTILE,
    )
    bad = bad.model_copy(update={"id": "host/" + HOSTILE, "digest": HOSTILE})
    line = check("max_drop", "fail", 1.0, 18.0, 1.0, "points", HOSTILE)
    target = TargetResult(target="host", title=HOSTILE, chosen=bad.id, reason=HOSTILE, status="fail", checks=(line,), command=HOSTILE)
    made = provenance().model_copy(update={"source": {HOSTILE: HOSTILE}, "packages": {HOSTILE: HOSTILE}, "evaluation": {"name": [HOSTILE]}})
    stage = StageRecord(stage=HOSTILE, plugin=HOSTILE, key=HOSTILE)
    return failing_report(
        name=HOSTILE,
        summary=HOSTILE,
        task=HOSTILE,
        models=(original(), bad),
        targets=(target,),
        notes=(HOSTILE,),
        stages=(stage,),
        provenance=made,
    )
