"""TensorRT on the device: a stand-in ``trtexec`` that keeps the ONNX file as its engine and runs it in ONNX Runtime.

What is tested is everything around it: when it is called, with what, what is kept, and what happens when it fails. No TensorRT is here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgekit.deploy.connection import connect
from edgekit.deploy.flash import flash

STAND_IN = """#!{python}
import json, os, shutil, sys
print("&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] #", *sys.argv)
given = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
with open("{log}", "a") as log:
    log.write(json.dumps(sorted(given)) + "\\n")
if "{mode}" == "fails" and "onnx" in given:
    print("[11/26/2026-03:00:00] [E] ModelImporter.cpp: no plugin for Odd"); sys.exit(1)
if "onnx" in given:
    shutil.copyfile(given["onnx"], given["saveEngine"])
if "loadEngine" in given:
    import numpy as np, onnxruntime as ort
    session = ort.InferenceSession(given["loadEngine"])
    feed = {{}}
    for part in given["loadInputs"].split(","):
        name, _, file = part.partition(":")
        feed[name] = np.fromfile(file, np.float32).reshape(1, 1, 8, 8)
    off = 5.0 if "{mode}" == "wrong" else 0.0
    told = [{{"name": o.name, "dimensions": "x".join(map(str, v.shape)), "values": (v + off).ravel().tolist()}}
            for o, v in zip(session.get_outputs(), session.run(None, feed))]
    json.dump(told, open(given["exportOutput"], "w"))
"""


@pytest.fixture
def trtexec(tmp_path, monkeypatch):
    """Puts a stand-in on PATH; returns the log of its calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def install(mode: str = "works", version: str = "100300") -> Path:
        path, log = folder / "trtexec", tmp_path / "calls.jsonl"
        path.write_text(STAND_IN.format(python=sys.executable, mode=mode, log=log, version=version))
        path.chmod(0o755)
        return log

    return install


def install(real, forge, tmp_path, version=1, **more):
    bundle = real(version, name="trt", **more, tensorrt={"flags": ["--stronglyTyped", "--shapes=image:1x1x8x8"]})
    with connect(f"dir://{tmp_path}/device") as device:
        return flash(device, bundle, root=forge.root(), approve=True)


def test_an_engine_is_built_tried_and_kept(real, forge, tmp_path, trtexec):
    log = trtexec()
    first = install(real, forge, tmp_path, 1)
    assert first.engine["runs"] == "tensorrt"
    assert (tmp_path / "device" / first.engine["engine"]).is_file()
    record = tmp_path / "device/models/trt/current/engine.json"
    assert json.loads(record.read_text()) == first.engine
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert calls[1] == ["onnx", "saveEngine", "shapes", "stronglyTyped"]
    assert "loadEngine" in calls[2]
    trtexec(version="100400")
    assert install(real, forge, tmp_path, 2).engine != first.engine
    trtexec()
    assert install(real, forge, tmp_path, 3).engine == first.engine
    assert log.read_text().count("saveEngine") == 2


def test_other_weights_beside_the_model_need_an_engine_of_their_own(real, forge, tmp_path, trtexec):
    trtexec()
    first, second = (install(real, forge, tmp_path, version, data=b"%d" % version) for version in (1, 2))
    assert first.engine["runs"] == second.engine["runs"] == "tensorrt"
    assert first.engine["engine"] != second.engine["engine"]


@pytest.mark.parametrize(
    ("mode", "why"),
    [("fails", "no plugin for Odd"), ("wrong", "the engine's outputs differ by"), ("", "trtexec is not installed here")],
    ids=["fails", "wrong", "absent"],
)
def test_the_fallback_runs_and_says_why(real, forge, tmp_path, trtexec, mode, why):
    if mode:
        trtexec(mode)
    found = install(real, forge, tmp_path)
    assert found.active
    assert found.engine["runs"] == "onnxruntime"
    assert why in found.engine["why"]
