import pytest

from edgekit.core.errors import TargetError
from edgekit.core.machine import Machine, this_machine
from edgekit.core.target import Backend, Target, describe_host, family, host_target, load_target, nearest_profile, target_names

S8 = {"activations": "int8", "symmetric": True, "reduce_range": False}


def machine(architecture="x86_64", features=(), cpu="some CPU"):
    return Machine(cpu=cpu, architecture=architecture, features=features, cores=4, memory_mb=8000, system="Linux", python="3.11")


def bundled():
    return [load_target(name) for name in target_names() if name != "host"]


def write(tmp_path, text, name="board.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


MINIMAL = """schema: 1
name: board
title: A board
architecture: aarch64
features: [asimd]
backends:
  - runtime: litert
    format: tflite
    precisions: [fp32]
sources:
  architecture: its manual
"""


@pytest.mark.parametrize(
    ("architecture", "features", "cpu", "expected"),
    [
        ("x86_64", ("avx2",), "Intel Core i5-4570", "x86-avx2"),
        ("x86_64", ("avx2", "avx512f"), "Xeon without VNNI", "x86-avx2"),
        ("x86_64", ("avx2", "avx_vnni"), "Intel N100", "x86-avx-vnni"),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni"), "Ice Lake", "x86-avx512-vnni"),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16"), "AMD Zen 4", "x86-avx512-bf16"),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16"), "AMD Zen 5", "x86-avx512-bf16"),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"), "AVX-VNNI hidden", "x86-amx"),
        ("aarch64", ("asimd",), "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)", "raspberry-pi-4"),
        ("aarch64", ("asimd",), "Raspberry Pi 3 Model B Plus Rev 1.3 (Cortex-A53)", "raspberry-pi-3"),
        ("aarch64", ("asimd",), "some Cortex-A72 server", "arm-v8.0"),
        ("aarch64", ("asimd", "asimddp", "fphp"), "Raspberry Pi 5 Model B Rev 1.0 (Cortex-A76)", "raspberry-pi-5"),
        ("aarch64", ("asimd", "asimddp", "fphp"), "Neoverse-N1", "arm-v8.2"),
        ("aarch64", ("asimd", "asimddp", "i8mm", "bf16", "fphp", "sve"), "Neoverse-V1", "arm-v8.2"),
    ],
)
def test_the_host_is_the_profile_whose_kernels_it_runs(architecture, features, cpu, expected):
    assert nearest_profile(machine(architecture, features, cpu), bundled()).name == expected


def test_the_device_goes_before_the_kind_of_cpu_whatever_their_names():
    kind = load_target("arm-v8.0").model_copy(update={"name": "z-kind"})
    board = load_target("raspberry-pi-4").model_copy(update={"name": "a-board"})
    here = machine("aarch64", ("asimd",), "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)")
    assert nearest_profile(here, [kind, board]).name == nearest_profile(here, [board, kind]).name == "a-board"


def test_a_jetson_as_host_is_its_arm_cpu_because_tensorrt_can_not_be_driven():
    orin = machine("aarch64", ("asimd", "asimddp", "fphp"), "NVIDIA Jetson AGX Orin Developer Kit (Cortex-A78AE)")
    host = describe_host(orin, bundled())
    assert "nearest" not in host.title
    assert "arm-v8.2" in host.title
    assert "tensorrt" not in {backend.runtime for backend in host.backends}


def test_the_host_keeps_its_own_extensions_and_memory():
    host = describe_host(machine("x86_64", ("avx2", "avx512f"), "old Xeon"), bundled())
    assert (host.name, host.features, host.memory_mb, host.threads) == ("host", ("avx2", "avx512f"), 8000, 1)
    assert "nearest to x86-avx2" in host.title
    assert host.backend(runtime="onnxruntime").int8.reduce_range
    assert host.emulate is None


def test_every_fact_of_the_host_has_a_source():
    assert [fact.field for fact in host_target().facts() if not fact.source] == []


def test_the_host_can_always_be_measured_here():
    assert host_target().measurable_on(this_machine())


@pytest.mark.parametrize("features", [(), ("avx512f",)])
def test_a_machine_without_a_profile_is_an_error_with_a_way_out(features):
    with pytest.raises(TargetError, match="target YAML"):
        describe_host(machine("x86_64", features), bundled())


def test_an_emulated_kind_of_cpu_is_measurable_on_any_such_machine():
    assert load_target("x86-avx512-vnni").measurable_on(machine("x86_64", ("avx2", "avx512f", "avx512_vnni")))
    assert load_target("x86-amx").measurable_on(
        machine("x86_64", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"), "hypervisor hides avx_vnni")
    )


def test_more_extensions_are_other_kernels_so_not_measured():
    more = machine("x86_64", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16"))
    assert not load_target("x86-avx512-vnni").measurable_on(more)
    assert not load_target("x86-avx2").measurable_on(more)
    assert not load_target("arm-v8.2").measurable_on(machine("aarch64", ("asimd", "asimddp", "fphp", "i8mm")))


def test_the_same_extensions_on_another_architecture_are_not_measured():
    assert not load_target("arm-v8.0").measurable_on(machine("armv7l", ("asimd",)))


def test_a_device_is_measured_on_that_device_only():
    on_pi3 = machine("aarch64", ("asimd",), "Raspberry Pi 3 Model B Rev 1.2 (Cortex-A53)")
    on_pi4 = machine("aarch64", ("asimd",), "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)")
    assert load_target("raspberry-pi-3").measurable_on(on_pi3)
    assert not load_target("raspberry-pi-3").measurable_on(on_pi4)
    assert not load_target("raspberry-pi-4").measurable_on(machine("aarch64", ("asimd",), "a server"))


@pytest.mark.parametrize(
    ("features", "target", "runtime", "precision", "expected"),
    [
        (("avx2",), "x86-avx512-vnni", "onnxruntime", "int8-static", "unsaturated"),
        (("avx2",), "x86-avx512-vnni", "onnxruntime", "fp32", "f32"),
        (("avx2",), "x86-avx2", "onnxruntime", "int8-static", "f32"),
        (("avx2",), "raspberry-pi-5", "onnxruntime", "int8-dynamic", "unsaturated"),
        (("avx2",), "jetson-nano", "tensorrt", "fp16", "f32"),
        (("avx2",), "jetson-orin-nano", "tensorrt", "int8-static", "unsaturated"),
        (("avx2", "avx_vnni"), "raspberry-pi-5", "onnxruntime", "int8-static", "f32"),
        (("avx2", "avx512f", "avx512_vnni"), "x86-amx", "openvino", "int8-static", "f32"),
    ],
)
def test_a_stand_in_computes_what_the_targets_kernels_do(features, target, runtime, precision, expected):
    profile = load_target(target)
    assert profile.execution_on(machine(features=features), profile.backend(runtime=runtime), precision) == expected


def test_kernels_that_saturate_are_taken_as_they_are_where_they_are_the_targets():
    profile = load_target("x86-avx2")
    backend = profile.backend(runtime="onnxruntime")
    careless = backend.model_copy(update={"int8": backend.int8.model_copy(update={"reduce_range": False})})
    assert profile.execution_on(machine(features=("avx2",)), careless, "int8-static") == "f32"
    assert profile.execution_on(machine("aarch64", ("asimd",)), careless, "int8-static") == "f32"


def test_backend_is_the_preferred_or_the_first_that_fits():
    target = load_target("x86-amx")
    assert target.backend().runtime == "openvino"
    assert target.backend(format="tflite").runtime == "litert"
    assert target.backend(runtime="onnxruntime").format == "onnx"


def test_a_runtime_that_the_target_lacks_is_named_with_those_it_has():
    with pytest.raises(TargetError, match=r"raspberry-pi-4 does not run tensorrt.*litert"):
        load_target("raspberry-pi-4").backend(runtime="tensorrt")


def test_a_precision_that_the_device_lacks_is_refused_with_those_it_has():
    nano = load_target("jetson-nano")
    with pytest.raises(TargetError, match=r"jetson-nano has no int8 in tensorrt.*fp32, fp16"):
        nano.require(nano.backend(), "int8-static")
    nano.require(nano.backend(), "fp16")


def test_family_is_the_word_before_the_dash():
    assert [family(p) for p in ("int8-static", "int8", "fp32")] == ["int8", "int8", "fp32"]


def test_command_is_filled_in_with_flags_shapes_and_quotes():
    backend = load_target("jetson-orin-nano").backend()
    assert backend.command_for("m 1.onnx", "int8-static", {"ids": (1, 128), "mask": (1, 128)}) == (
        "/usr/src/tensorrt/bin/trtexec --onnx='m 1.onnx' --saveEngine='m 1'.engine --stronglyTyped --shapes=ids:1x128,mask:1x128"
    )
    assert backend.command_for("m.onnx", "fp32") == "/usr/src/tensorrt/bin/trtexec --onnx=m.onnx --saveEngine=m.engine --noTF32"


def test_no_command_where_the_runtime_lives_in_a_program():
    assert load_target("x86-amx").backend().command_for("m.xml", "int8") is None


def test_a_user_writes_a_target_of_his_own(tmp_path):
    target = load_target(write(tmp_path, MINIMAL))
    assert target.name == "board"
    assert [fact.field for fact in target.facts()] == [
        "architecture",
        "features",
        "backends.litert.format",
        "backends.litert.precisions",
    ]
    assert target.facts()[0].source == "its manual"
    assert target.facts()[2].source == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: board", "name: plank", r"is named 'plank' inside.*name: board"),
        ("title:", "titel:", r"unknown key 'titel'.*'title'"),
        ("format:", "fromat:", r"unknown key 'backends.0.fromat'.*'format'"),
        ("architecture: aarch64", "architecture: arm64v8", r"architecture"),
        ("  architecture: its manual", "  architekture: its manual", r"'architekture' is no fact.*'architecture'"),
        ("precisions: [fp32]", "precisions: [fp32, int8]", r"int8 scheme"),
        ("precisions: [fp32]", "precisions: [fp32]\n    flags: {fp16: --fp16}", r"flags for \['fp16'\]"),
        ("precisions: [fp32]", "precisions: [fp32]\n    command: run {modell}", r"\{modell\} is not filled in.*'model'"),
        ("precisions: [fp32]", "precisions: []", r"precisions"),
        ("features: [asimd]", "features: [asimd]\nemulate: max", r"'max' emulates no CPU"),
        ("features: [asimd]", "features: [asimd]\nmemory_mb: 0", r"memory_mb"),
    ],
)
def test_a_wrong_profile_says_where_and_what(tmp_path, old, new, message):
    assert old in MINIMAL
    with pytest.raises(TargetError, match=message):
        load_target(write(tmp_path, MINIMAL.replace(old, new)))


def test_a_mistyped_target_names_the_nearest():
    with pytest.raises(TargetError, match=r"unknown target 'rasberry-pi-4'.*'raspberry-pi-4'"):
        load_target("rasberry-pi-4")


@pytest.mark.parametrize("name", ["../targets/x86-amx", "", "X86-AMX"])
def test_a_name_is_not_a_path(name):
    with pytest.raises(TargetError, match="unknown target"):
        load_target(name)


def test_an_absent_file_is_named():
    with pytest.raises(TargetError, match=r"absent\.yaml: No such file"):
        load_target("absent.yaml")


def test_target_and_backend_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_target("x86-avx2").name = "other"
    with pytest.raises(ValueError, match="frozen"):
        Backend(runtime="r", format="f", precisions=("int8",), int8=S8).runtime = "other"


def test_sources_may_cover_a_whole_backend_or_one_of_its_facts():
    target = Target.model_validate(
        {
            "name": "t",
            "title": "t",
            "architecture": "x86_64",
            "backends": [{"runtime": "r", "format": "f", "precisions": ["int8"], "int8": S8}],
            "sources": {"backends.r": "the manual", "backends.r.int8": "chapter 5"},
        }
    )
    assert {fact.field: fact.source for fact in target.facts()} == {
        "architecture": "",
        "backends.r.format": "the manual",
        "backends.r.precisions": "the manual",
        "backends.r.int8": "chapter 5",
    }
