from edgekit.core.machine import FEATURES, cpu_features, cpu_name, kernel_features, parse_cpuinfo, this_machine

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8480+
flags\t\t: fpu avx2 avx512f avx_vnni avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8

processor\t: 1
model name\t: another
"""
PI4 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0xd08

Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
CARMEL = """model name\t: ARMv8 Processor rev 0 (v8l)
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm dcpop
CPU implementer\t: 0x4e
CPU part\t: 0x004
"""


def test_features_keep_the_order_of_the_list_and_drop_what_decides_nothing():
    assert cpu_features(parse_cpuinfo(XEON)) == (
        "avx2",
        "avx512f",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
        "amx_int8",
        "amx_bf16",
    )
    assert cpu_features(parse_cpuinfo(PI4)) == ("asimd",)
    assert cpu_features(parse_cpuinfo(CARMEL)) == ("asimd", "fphp")
    assert cpu_features(parse_cpuinfo("")) == ()


def test_a_feature_is_a_whole_word():
    assert cpu_features({"flags": "avx2x notavx2"}) == ()


def test_the_first_processor_names_the_cpu():
    assert cpu_name(parse_cpuinfo(XEON)) == "Intel(R) Xeon(R) Platinum 8480+"


def test_a_board_is_named_by_its_device_tree_with_the_core():
    assert cpu_name(parse_cpuinfo(PI4), "Raspberry Pi 4 Model B Rev 1.4\0") == "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)"
    assert cpu_name(parse_cpuinfo(CARMEL), "NVIDIA Jetson Xavier NX Developer Kit") == "NVIDIA Jetson Xavier NX Developer Kit (Carmel)"


def test_in_a_container_cpuinfo_still_names_the_raspberry_pi():
    assert cpu_name(parse_cpuinfo(PI4)) == "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)"


def test_nothing_known_is_an_empty_name():
    assert cpu_name({}) == ""


def test_avx_vnni_does_not_matter_beside_avx512_vnni():
    assert kernel_features(["avx2", "avx_vnni", "avx512_vnni"]) == kernel_features(["avx2", "avx512_vnni"])
    assert kernel_features(["avx2", "avx_vnni"]) != kernel_features(["avx2"])


def test_this_machine_describes_itself():
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.memory_mb > 100
    assert set(machine.features) <= set(FEATURES)
