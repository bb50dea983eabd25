"""What the bundled profiles must say; the facts that decide whether an int8 file is right on its device are pinned here."""

import re

import pytest

from edgekit.core.machine import FEATURES, kernel_features
from edgekit.core.target import load_target, target_names

NAMES = [name for name in target_names() if name != "host"]
JETSONS = [name for name in NAMES if name.startswith("jetson")]
X86 = [name for name in NAMES if name.startswith("x86")]
ARM = [name for name in NAMES if name.startswith(("arm", "raspberry"))]


def test_the_promised_targets_are_there():
    promised = {
        "x86-avx2",
        "x86-avx512-vnni",
        "x86-amx",
        "raspberry-pi-3",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "arm-v8.2",
        "jetson-nano",
        "jetson-xavier-nx",
        "jetson-orin-nano",
        "jetson-agx-orin",
    }
    assert promised <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_a_source(name):
    target = load_target(name)
    facts = target.facts()
    assert {"architecture", "features", "simd_width", f"backends.{target.backends[0].runtime}.precisions"} <= {f.field for f in facts}
    assert [fact.field for fact in facts if len(fact.source) < 8] == []


@pytest.mark.parametrize("name", NAMES)
def test_features_are_ones_that_can_be_detected(name):
    assert set(load_target(name).features) <= set(FEATURES)


@pytest.mark.parametrize("name", NAMES)
def test_runtimes_are_listed_once(name):
    runtimes = [backend.runtime for backend in load_target(name).backends]
    assert len(runtimes) == len(set(runtimes))


@pytest.mark.parametrize("name", X86)
def test_7_bit_weights_exactly_where_kernels_saturate(name):
    target = load_target(name)
    saturates = not kernel_features(target.features) & {"avx_vnni", "avx512_vnni"}
    assert saturates == (name == "x86-avx2")
    for runtime in ("onnxruntime", "openvino"):
        scheme = target.backend(runtime=runtime).int8
        assert (scheme.activations, scheme.reduce_range) == ("uint8", saturates)


@pytest.mark.parametrize("name", NAMES)
def test_tflite_is_signed_with_a_zero_point_everywhere(name):
    for backend in load_target(name).backends:
        if backend.format == "tflite":
            assert (backend.int8.activations, backend.int8.symmetric, backend.int8.reduce_range) == ("int8", False, False)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_openvino_on_cpus_that_compute_it(name):
    target = load_target(name)
    has = bool({"avx512_bf16", "amx_bf16"} & set(target.features))
    assert {b.runtime for b in target.backends if "bf16" in b.precisions} == ({"openvino"} if has else set())


@pytest.mark.parametrize("name", ARM)
def test_arm_boards_prefer_litert(name):
    assert load_target(name).backends[0].runtime == "litert"


@pytest.mark.parametrize("name", X86 + ARM)
def test_the_legacy_runtime_is_there_when_it_is_asked_for(name):
    assert [b.runtime for b in load_target(name).backends if b.on_request] == ["tflite_runtime"]


@pytest.mark.parametrize("name", ["raspberry-pi-3", "raspberry-pi-4", "arm-v8.0"])
def test_openvino_simulates_int8_on_armv8_0_so_it_is_not_offered(name):
    assert load_target(name).backend(runtime="openvino").int8 is None


@pytest.mark.parametrize(
    ("name", "cpu"),
    [
        ("x86-avx2", "Haswell"),
        ("raspberry-pi-3", "cortex-a53"),
        ("raspberry-pi-4", "cortex-a72"),
        ("raspberry-pi-5", "cortex-a76"),
        ("arm-v8.2", "neoverse-n1"),
    ],
)
def test_emulated_by_a_real_cpu(name, cpu):
    assert load_target(name).emulate == cpu


@pytest.mark.parametrize("name", JETSONS)
def test_jetsons_run_tensorrt_with_a_stand_in_and_are_never_emulated(name):
    target = load_target(name)
    backend = target.backends[0]
    assert (backend.runtime, backend.format, backend.stand_in) == ("tensorrt", "onnx", "onnxruntime")
    assert target.emulate is None
    assert target.devices
    if backend.int8:
        assert (backend.int8.activations, backend.int8.symmetric, backend.int8.reduce_range) == ("int8", True, False)


@pytest.mark.parametrize(
    ("name", "precision", "flags"),
    [
        ("jetson-nano", "fp32", ""),
        ("jetson-nano", "fp16", " --fp16"),
        ("jetson-xavier-nx", "int8-static", " --int8"),
        ("jetson-xavier-nx", "fp16", " --fp16"),
        ("jetson-orin-nano", "fp32", " --noTF32"),
        ("jetson-orin-nano", "int8-static", " --stronglyTyped"),
        ("jetson-agx-orin", "fp16", " --stronglyTyped"),
    ],
)
def test_trtexec_command_is_exact(name, precision, flags):
    command = load_target(name).backend().command_for("model.onnx", precision)
    assert command == f"/usr/src/tensorrt/bin/trtexec --onnx=model.onnx --saveEngine=model.engine{flags}"


@pytest.mark.parametrize(
    ("name", "release", "opset"), [("jetson-nano", "8.2", 13), ("jetson-xavier-nx", "8.5", 17), ("jetson-agx-orin", "10.3", 20)]
)
def test_tensorrt_release_and_the_opset_it_reads(name, release, opset):
    backend = load_target(name).backend()
    assert re.match(rf"TensorRT {re.escape(release)}\b", backend.version)
    assert backend.opset == opset


def test_maxwell_has_no_int8_and_ampere_has():
    assert load_target("jetson-nano").backend().precisions == ("fp32", "fp16")
    assert "int8" in load_target("jetson-orin-nano").backend().precisions
