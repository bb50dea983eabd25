"""The application's side, in a process that knows nothing of edgekit but the file on the device."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgekit.agent.app import Application
from edgekit.deploy.connection import connect
from edgekit.deploy.flash import flash
from edgekit.runner import RunnerError

APPLICATION = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1] + "/agent.pyz")
from edgekit_device.agent.app import Application

app = Application(sys.argv[1], "tiny")
model = app.open()
for line in sys.stdin:
    output = model.run({"image": np.ones((1, 1, 8, 8), np.float32)})["output"]
    good = app.mark_good() if line == "good\\n" else None
    newer = app.replaced()
    if newer:
        model = app.open()
    told = {"slot": app.folder.name, "output": output.ravel().tolist(), "good": good, "replaced": newer}
    print(json.dumps({**told, "edgekit": "edgekit" in sys.modules}), flush=True)
"""


def test_an_application_survives_a_switch_under_it(real, forge, tmp_path):
    home = tmp_path / "device"
    with connect(f"dir://{home}") as device:
        first = flash(device, real(1), root=forge.root())
    command = [sys.executable, "-I", "-c", APPLICATION, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def step(word: str) -> dict:
            process.stdin.write(word + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        one = step("good")
        assert (one["slot"], one["good"], one["replaced"], one["edgekit"]) == (first.slot, True, False, False)
        with connect(f"dir://{home}") as device:
            second = flash(device, real(2))
            assert device.ask("status")["models"]["tiny"]["good"] == first.slot
        two = step("run")
        assert (two["slot"], two["replaced"]) == (second.slot, True)
        assert two["output"] == one["output"]
        assert step("good")["good"]
        process.stdin.close()
    with connect(f"dir://{home}") as device:
        assert device.ask("status")["models"]["tiny"]["good"] == second.slot


def test_a_model_that_does_not_load_is_not_taken_for_the_opened_one(real, forge, tmp_path):
    with connect(f"dir://{tmp_path}") as device:
        first = flash(device, real(1), root=forge.root(), approve=True)
        application = Application(str(tmp_path), "tiny")
        application.open()
        second = flash(device, real(2))
        (tmp_path / "models/tiny/slots" / second.slot / "model/tiny.onnx").write_bytes(b"rotten")
        with pytest.raises(RunnerError):
            application.open()
        application.mark_good()
        assert application.folder.name == first.slot
        assert device.ask("status")["models"]["tiny"]["good"] == first.slot


def test_an_application_opens_a_model_after_the_agent_was_replaced(real, forge, tmp_path):
    with connect(f"dir://{tmp_path}") as device:
        first = flash(device, real(1), root=forge.root())
    code = APPLICATION.partition("model = ")[0] + (
        "assert not {'onnxruntime', 'openvino', 'torch', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules)\n"
        "import os\n"
        "with open(sys.argv[1] + '/newer', 'wb') as newer:\n"
        "    newer.write(b'another agent')\n"
        "os.replace(sys.argv[1] + '/newer', sys.argv[1] + '/agent.pyz')\n"
        "app.open()\n"
        "print(app.folder.name, app.mark_good())\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == f"{first.slot} True\n", done.stderr


def test_an_application_that_dies_at_once_gets_the_last_good_model_back(real, forge, tmp_path):
    home = tmp_path / "device"
    with connect(f"dir://{home}") as device:
        first = flash(device, real(1), root=forge.root(), approve=True)
        flash(device, real(2))
    code = APPLICATION.partition("for line")[0] + "print(app.folder.name)"
    slots = [
        subprocess.run([sys.executable, "-I", "-c", code, str(home)], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(4)
    ]
    assert [slot[:2] for slot in slots] == ["2-", "2-", "2-", "1-"]
    assert slots[3] == first.slot
