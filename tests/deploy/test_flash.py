"""From bundle to running model through a real agent process and the real runtime."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time

import pytest

from edgekit.agent import archive, install, selftest
from edgekit.cli.main import main
from edgekit.core.errors import BundleError, SelfTestError
from edgekit.deploy.agent_file import agent_file
from edgekit.deploy.connection import connect
from edgekit.deploy.devices import look, roll_back
from edgekit.deploy.flash import flash


def agent(home, *words):
    done = subprocess.run([sys.executable, str(home / "agent.pyz"), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_flash_run_flash_again_and_roll_back(real, forge, tmp_path):
    home = tmp_path / "device"
    url = f"dir://{home}"
    with connect(url) as device:
        first = flash(device, real(1), root=forge.root(), approve=True)
    assert (first.active, first.state, first.selftest["circumstances"]["runtime"]) == (True, "good", "onnxruntime")
    assert first.selftest["deviation"] < 1e-6
    assert first.selftest["peak_kb"] > 10_000
    with connect(url) as device:
        again = flash(device, real(1))
        second = flash(device, real(2, extra=b'{"changed": 1}\n'))
    assert again.already
    assert second.state == "on trial"
    assert second.bytes_sent < 0.1 * second.bytes_total
    assert agent(home, "start", "tiny").endswith(second.slot)
    agent(home, "good", "tiny")
    state = look(url)
    assert (state.trusts, state.models[0].state, state.models[0].version) == ("root 1", "good", 2)
    with connect(url) as device:
        assert roll_back(device, None).slot == first.slot
    assert agent(home, "start", "tiny").endswith(first.slot)


def test_a_program_marks_the_folder_that_it_started(real, forge, tmp_path):
    home = tmp_path / "device"
    with connect(f"dir://{home}") as device:
        flash(device, real(1), root=forge.root(), approve=True)
        started = agent(home, "start", "tiny")
        second = flash(device, real(2))
        for words, why in (((), "was never started"), ((started,), "is not current any more")):
            command = [sys.executable, str(home / "agent.pyz"), "good", "tiny", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, why in done.stderr) == (1, True)
        assert device.ask("status")["models"]["tiny"]["state"] == "on trial"
        agent(home, "good", "tiny", agent(home, "start", "tiny"))
        assert device.ask("status")["models"]["tiny"]["good"] == second.slot


def test_bytes_are_counted_for_each_flash_of_a_connection(real, forge, tmp_path):
    with connect(f"dir://{tmp_path}/device") as device:
        large = flash(device, real(1, extra=b"{}" * 20_000), root=forge.root(), activate=False)
        small = flash(device, real(1, name="other"), activate=False)
    assert large.bytes_sent > 40_000 > 10_000 > small.bytes_sent


def test_a_model_that_passes_here_and_fails_there_never_becomes_current(real, forge, tmp_path):
    """The expected outputs are those of this machine's own model; the device computes others."""
    url = f"dir://{tmp_path}/device"
    with connect(url) as device:
        good = flash(device, real(1), root=forge.root(), approve=True)
        with pytest.raises(SelfTestError, match="fails its self-test on this device: outputs differ by"):
            flash(device, real(2, off=3.0))
    with connect(url) as device:
        state = device.ask("status")["models"]["tiny"]
    assert state["current"] == good.slot
    assert state["stored"] == [good.slot]
    assert state["journal"][-1]["event"] == "refused"


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"latency_us": 1}, "at the median"), ({"memory_kb": 1024}, "MiB at the peak"), ({"count": 2}, "1 samples where the manifest says 2")],
)
def test_limits_of_the_self_test_hold(real, forge, tmp_path, limits, words):
    bundle = real(1, name=f"limited-{next(iter(limits)).replace('_', '-')}", selftest=limits)
    with connect(f"dir://{tmp_path}/device") as device, pytest.raises(SelfTestError, match=words):
        flash(device, bundle, root=forge.root())


@pytest.mark.parametrize(("brought", "began"), [(True, "rehearse"), (False, "try")])
def test_the_runtime_is_loaded_while_files_are_on_their_way(real, forge, tmp_path, monkeypatch, brought, began):
    """With the code that lies on the device already, if it is the bundle's; else once the bundle's own is there."""
    seen = []

    class Noted(selftest.Trial):
        def __init__(self, runner, *words):
            seen.append((runner.relative_to(tmp_path).parts[0], words[0]))
            super().__init__(runner, *words)

    monkeypatch.setattr(selftest, "Trial", Noted)
    if brought:
        (tmp_path / "agent.pyz").write_bytes(agent_file())
    installer = install.Installer(tmp_path)
    installer.enrol(forge.root())
    with real(1).open("rb") as source:
        found = install.install_file(installer, source)
    assert found["selftest"]["deviation"] < 1e-6
    assert seen == [("agent.pyz" if brought else "models", began)]


def test_a_rehearsal_of_which_nothing_comes_ends(real, forge, tmp_path):
    (tmp_path / "agent.pyz").write_bytes(agent_file())
    installer = install.Installer(tmp_path)
    installer.enrol(forge.root())
    with real(1).open("rb") as source:
        offer = installer.offer(archive.read_envelope(source))
    installer.rehearse(offer)
    installer.rest()
    command = [sys.executable, str(tmp_path / "agent.pyz"), "rehearse", "onnxruntime"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20)
    assert ended.stdout == b""


CRASHES = {
    "import os; os.kill(os.getpid(), 4)": "ended by SIGILL",
    "import time; time.sleep(60)": "no answer within 1 s",
    "import os, time; os.fork(); time.sleep(12)": "no answer within 1 s",
    "print('x')": "ended with status 0",
}


@pytest.mark.parametrize(("code", "words"), CRASHES.items(), ids=["crash", "hang", "a child that hangs", "nonsense"])
def test_a_runtime_that_crashes_or_hangs_is_a_failed_test(forge, tmp_path, code, words):
    files = {**forge.contents(), "agent.pyz": code.encode()}
    target = {"architectures": [platform.machine()], "features": []}
    bundle = tmp_path / "x.edgekit"
    bundle.write_bytes(forge.bundle(1, files=files, target=target, runtime={"at_least": "1.0"}, selftest={"timeout_s": 1}))
    began = time.monotonic()
    with connect(f"dir://{tmp_path}/device") as device, pytest.raises(SelfTestError, match=words):
        flash(device, bundle, root=forge.root())
    assert time.monotonic() - began < 10


def test_stored_only_is_tried_by_the_device_itself(real, forge, tmp_path):
    home = tmp_path / "device"
    with connect(f"dir://{home}") as device:
        found = flash(device, real(1), root=forge.root(), activate=False)
    assert (found.active, found.state) == (False, "stored")
    assert not (home / "models/tiny/current").exists()
    answer = json.loads(agent(home, "activate", "tiny"))
    assert answer["slot"] == found.slot
    assert (home / "models/tiny/current/model/tiny.onnx").is_file()


def test_a_disk_prepared_elsewhere_is_checked_by_the_device_itself(real, forge, tmp_path):
    """The host stores what is for another CPU; the device (here: not that CPU) refuses it, and refuses what was changed in between."""
    home = tmp_path / "device"
    other = {"architectures": ["riscv64"], "features": [], "memory_mb": None}
    with connect(f"dir://{home}") as device:
        with pytest.raises(BundleError, match="it is for riscv64"):
            flash(device, real(1, name="other", target=other), root=forge.root())
        assert flash(device, real(1, name="other", target=other), activate=False).state == "stored"
        stored = flash(device, real(1), activate=False)
    with connect(f"dir://{home}") as device, pytest.raises(BundleError, match="it is for riscv64"):
        device.ask("activate", name="other")
    (home / f"models/tiny/slots/{stored.slot}/io.json").write_text("{ }")
    with connect(f"dir://{home}") as device, pytest.raises(BundleError, match="is damaged"):
        device.ask("activate", name="tiny")
    assert not (home / "models/tiny/current").exists()


def test_a_bundle_from_a_memory_stick(real, root_file, tmp_path, capsys):
    home = tmp_path / "device"
    assert main(["flash", str(real(1)), "--to", f"dir://{home}", "--trust", str(root_file), "--mark-good", "--json"]) == 0
    assert json.loads(agent(home, "install", str(real(2))))["active"]
    assert main(["devices", f"dir://{home}", "--json"]) == 0
    told = capsys.readouterr().out
    assert json.loads(told[told.index("[") :])[0]["models"][0]["version"] == 2


def test_a_device_is_shown_and_taken_back_by_command(real, root_file, tmp_path, capsys):
    url = f"dir://{tmp_path}/device"
    for version in (1, 2):
        assert main(["flash", str(real(version)), "--to", url, "--trust", str(root_file), "--mark-good"]) == 0
    capsys.readouterr()
    assert main(["devices", url, f"dir://{tmp_path}/new"]) == 0
    shown = capsys.readouterr().out
    row = next(line.split() for line in shown.splitlines() if " tiny " in line)
    assert (row[1:4], row[4].partition("-")[0], row[-1]) == (["tiny", "2", "good"], "2", "onnxruntime")
    assert "nobody yet" in shown
    assert main(["rollback", "--to", url]) == 0
    assert ": tiny is back at 1-" in capsys.readouterr().out
    assert main(["rollback", "--to", url, "--model", "other"]) == 2
    assert "hint: it has: tiny" in capsys.readouterr().err


def test_a_device_that_refuses_to_tell_does_not_hide_the_others(real, root_file, tmp_path, capsys):
    urls = [f"dir://{tmp_path}/{name}" for name in ("damaged", "sound")]
    for url in urls:
        assert main(["flash", str(real(1)), "--to", url, "--trust", str(root_file)]) == 0
    (tmp_path / "damaged/root.json").write_text("{")
    capsys.readouterr()
    assert main(["devices", *urls, "--json"]) == 3
    damaged, sound = json.loads(capsys.readouterr().out)
    assert "the device's root is not canonical JSON" in damaged["problem"]
    assert (sound["problem"], sound["models"][0]["version"]) == (None, 1)


def test_a_refusal_is_one_line_with_a_hint_and_exit_code_2(real, tmp_path, capsys):
    assert main(["flash", str(real(1)), "--to", f"dir://{tmp_path}/device"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"error: dir://{tmp_path}/device: this device trusts nobody yet",
        "hint: hand it a root once: edgekit flash --trust ROOT.json",
    ]


def test_a_failed_self_test_is_exit_code_1(real, root_file, tmp_path, capsys):
    assert main(["flash", str(real(1, off=9.0)), "--to", f"dir://{tmp_path}/device", "--trust", str(root_file)]) == 1
    assert "fails its self-test on this device" in capsys.readouterr().err


def test_a_file_that_is_no_bundle(tmp_path, capsys):
    path = tmp_path / "x.edgekit"
    path.write_bytes(b"hello" * 1000)
    assert main(["flash", str(path), "--to", f"dir://{tmp_path}/device"]) == 2
    assert "this is no bundle" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["rollback"], ["benchmark", "--rounds", "3"]])
def test_a_mistyped_folder_does_not_become_a_device(tmp_path, capsys, words):
    assert main([*words, "--to", f"dir://{tmp_path}/typo"]) == 3
    assert "no device is there" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_a_folder_that_can_t_be_made(real, capsys):
    assert main(["flash", str(real(1)), "--to", "dir:///proc/nowhere/device"]) == 3
    assert "can't be written there" in capsys.readouterr().err


def test_roll_back_needs_something_to_go_back_to(real, forge, tmp_path):
    with connect(f"dir://{tmp_path}/device") as device:
        flash(device, real(1), root=forge.root(), approve=True)
        with pytest.raises(BundleError, match="no earlier good model"):
            roll_back(device, "tiny")
