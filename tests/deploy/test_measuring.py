"""Latency, memory and accuracy of what runs on a device, through the runner there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgekit.cli.main import main
from edgekit.deploy.connection import connect
from edgekit.deploy.flash import flash


@pytest.fixture
def device(real, forge, tmp_path):
    url = f"dir://{tmp_path}/device"
    with connect(url) as opened:
        flash(opened, real(1), root=forge.root(), approve=True)
    return url


def test_the_current_model_is_measured_with_real_inputs_and_labels(device, tmp_path, tiny_onnx, capsys):
    from edgekit.runner import load

    (tmp_path / "tiny.onnx").write_bytes(tiny_onnx)
    images = np.random.default_rng(2).normal(size=(12, 8, 8, 1)).astype(np.float32)
    session = load(tmp_path / "tiny.onnx", "onnxruntime")
    labels = [int(session.run({"image": image.transpose(2, 0, 1)[None]})["output"].argmax()) for image in images]
    labels[0] = (labels[0] + 1) % 3
    np.savez(tmp_path / "set.npz", x=images, y=np.array(labels))
    (tmp_path / "set.yaml").write_text(
        "schema: 1\nname: set\nread: {use: npz, path: set.npz, inputs: {image: x}, labels: y}\nclasses: [a, b, c]\n"
        "preprocess: {layout: nchw}\n"
    )
    words = ["benchmark", "--to", device, "--data", str(tmp_path / "set.yaml"), "--task", "image_classification", "--rounds", "3", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"]["top1"] == pytest.approx(100 * 11 / 12)
    assert (told["samples"], told["latency"]["basis"], told["inputs"]) == (12, "measured", "set")
    assert 0 < told["latency"]["p50"]["value"] < 100
    assert told["memory"]["peak_mb"] > 10
    assert "load_before" not in told["latency"]["circumstances"]


def test_without_data_inputs_are_random_and_accuracy_is_not_judged(device, capsys):
    assert main(["benchmark", "--to", device, "--rounds", "3"]) == 0
    told = capsys.readouterr().out
    assert "random numbers; accuracy was not judged" in told
    assert "measured" in told


def test_files_and_a_device_at_once_are_refused(device, capsys):
    assert main(["benchmark", "x.onnx", "--to", device]) == 2
    assert "--to measures what is current" in capsys.readouterr().err
