from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from edgekit import doctor
from edgekit.doctor import Check, Installed, diagnose, import_problem


def checked(requirement: str, versions: dict[str, str]) -> Check:
    return next(iter(doctor.check_packages([Requirement(requirement)], Installed(versions), deep=False)))


def by_name(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture
def broken_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that is installed for all to see and fails as torchvision does on a torch that it was not built for."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n', encoding="utf-8")
    info = tmp_path / "torchvision-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.1\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "torchvision"


def test_this_environment_is_whole():
    found = diagnose()
    assert [check for check in found.checks if not check.good] == []
    assert (found.ok, found.fix) == (True, "")


def test_every_requirement_is_checked_with_its_version():
    from importlib import metadata

    found = by_name(check for check in diagnose().checks if check.group == "package")
    assert found["torch"].found == metadata.version("torch")
    assert {"onnx", "onnxruntime", "openvino", "nncf", "ai-edge-litert", "pydantic"} <= set(found)
    assert "pytest" not in found


def test_a_package_within_its_range():
    assert checked("Alpha_Beta>=1,<2", {"alpha-beta": "1.5"}) == Check(group="package", name="Alpha_Beta", state="ok", found="1.5")


def test_a_local_build_counts_as_its_version():
    assert checked("torch>=2.13,<2.14", {"torch": "2.13.0+cpu"}).state == "ok"


def test_a_missing_package_names_the_command():
    check = checked("onnx>=1.21,<1.24", {})
    assert (check.state, check.good) == ("missing", False)
    assert check.fix == "pip install 'onnx<1.24,>=1.21'"


def test_a_wrong_version_names_both():
    check = checked("onnx>=1.21,<1.24", {"onnx": "1.10.0"})
    assert (check.state, check.found) == ("wrong version", "1.10.0, wanted <1.24,>=1.21")
    assert check.fix == "pip install 'onnx<1.24,>=1.21'"


def test_one_command_mends_all_packages():
    checks = [
        Check(group="package", name="a", state="missing", fix="pip install 'a>1'"),
        Check(group="package", name="b", state="wrong version", fix="pip install 'b<2'"),
        Check(group="package", name="c", state="ok"),
        Check(group="package", name="d", state="broken", fix="pip install --force-reinstall --no-deps d"),
        Check(group="python", name="python", state="wrong version", fix="make the environment with Python >=3.11"),
    ]
    assert doctor._one_command(checks) == (
        "pip install 'a>1' 'b<2' && pip install --force-reinstall --no-deps d && make the environment with Python >=3.11"
    )


def test_a_wrong_python_is_told():
    check = next(iter(doctor.check_python(">=99")))
    assert (check.state, check.fix) == ("wrong version", "make the environment with Python >=99")


def test_unreadable_metadata_is_told():
    check = next(iter(doctor.check_python("")))
    assert (check.name, check.state, check.good) == ("edgekit", "missing", False)


def test_an_import_that_works_says_nothing():
    assert import_problem("json") == ""
    assert import_problem("") == ""


def test_an_import_that_fails_says_why(broken_package):
    assert import_problem(broken_package) == "RuntimeError: operator torchvision::nms does not exist"
    assert import_problem("no_such_module_at_all") == "ModuleNotFoundError: No module named 'no_such_module_at_all'"


def test_an_import_that_kills_the_process_is_told(tmp_path, monkeypatch):
    (tmp_path / "crashes.py").write_text("import os\nos._exit(7)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert import_problem("crashes") == "import crashes ends the process with code 7"


def test_a_broken_torchvision_is_named_even_without_deep(broken_package):
    found = diagnose()
    check = by_name(found.checks)["torchvision"]
    assert (check.state, check.good) == ("broken", False)
    assert "nms does not exist" in check.found
    assert "transformers fail to import" in check.found
    assert check.fix.startswith("pip uninstall -y torchvision")
    assert not found.ok
    assert "torchvision" in found.fix


def test_without_torchvision_there_is_nothing_to_say():
    assert list(doctor.check_troublemakers(Installed({}))) == []


def test_deep_imports_what_is_installed(broken_package, monkeypatch):
    monkeypatch.setattr(doctor, "top_level_modules", lambda: {"torchvision": "torchvision"})
    needed, installed = [Requirement("torchvision")], Installed({"torchvision": "0.1"})
    assert next(iter(doctor.check_packages(needed, installed, deep=False))).state == "ok"
    check = next(iter(doctor.check_packages(needed, installed, deep=True)))
    assert check.state == "broken"
    assert check.fix == "pip install --force-reinstall --no-deps torchvision"


def test_modules_to_import_are_the_public_ones():
    modules = doctor.top_level_modules()
    assert (modules["pillow"], modules["pyyaml"], modules["torch"], modules["ai-edge-litert"]) == ("PIL", "yaml", "torch", "ai_edge_litert")


def test_a_format_without_its_package_is_missing():
    found = {(check.group, check.name): check for check in doctor.check_plugins({"openvino"})}
    assert found["format", "openvino"].state == "missing"
    assert "openvino" in found["format", "openvino"].found
    assert found["runtime", "openvino"].fix == "pip install openvino"
    assert found["format", "onnx"].state == "ok"
    assert found["runtime", "onnxruntime"].state == "ok"


def test_a_package_that_is_not_built_for_this_machine_is_no_failure(monkeypatch):
    monkeypatch.setattr(doctor, "offered_here", lambda name: name != "litert-converter")
    check = doctor._plugin_check("format", "tflite", ["litert-converter"], "")
    assert (check.state, check.good) == ("absent", True)
    assert "make the model on x86-64" in check.found


def test_what_the_metadata_asks_for_here_is_offered_here():
    assert doctor.offered_here("onnx")
    assert doctor.offered_here("something-else-entirely")


def test_every_runtime_is_listed():
    assert {"onnxruntime", "openvino", "litert", "pytorch", "tflite_runtime"} <= set(doctor.runtime_classes())


def test_the_environment_of_tflite_runtime_is_found_and_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    assert (doctor.check_tflite_runtime().state, doctor.check_tflite_runtime().good) == ("absent", True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "venvs/abc/lib/python3.11/site-packages/tflite_runtime-2.14.0.dist-info").mkdir(parents=True)
    check = doctor.check_tflite_runtime()
    assert (check.state, check.found) == ("ok", f"2.14.0 in {tmp_path}/venvs/abc")


def test_tools_are_optional(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {check.state for check in doctor.check_tools()} == {"absent"}
    tool = tmp_path / "qemu-aarch64-static"
    tool.write_text("#!/bin/sh\n", encoding="utf-8")
    tool.chmod(0o755)
    found = by_name(doctor.check_tools())["qemu-aarch64-static"]
    assert (found.state, found.found, found.fix) == ("ok", str(tool), "")


def test_the_store_is_shown_with_its_room_and_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "not" / "yet"))
    check = by_name(doctor.check_places())["store"]
    assert check.found.startswith(f"{tmp_path}/not/yet, ")
    assert not (tmp_path / "not").exists()


def test_a_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "ROOM_GB", 1e9)
    check = by_name(doctor.check_places())["store"]
    assert (check.state, check.good) == ("broken", False)
    assert "EDGEKIT_CACHE" in check.fix


def test_a_store_below_a_file_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file" / "store"))
    assert by_name(doctor.check_places())["store"].state == "broken"


def test_absent_data_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "none"))
    check = by_name(doctor.check_places())["EDGEKIT_DATA"]
    assert (check.state, check.good, check.found) == ("absent", True, str(tmp_path / "none"))


def test_a_quick_diagnosis_imports_no_heavy_library():
    heavy = "[m for m in ('torch', 'onnx', 'openvino', 'nncf') if m in sys.modules]"
    code = f"import sys; from edgekit.doctor import diagnose; diagnose(); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
