import json
import os
import pickle
import struct
import subprocess
import sys

import pytest

from edgekit.core.errors import SourceError
from edgekit.inspection import inspect


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_safetensors_by_the_header_alone(tmp_path):
    header = {
        "__metadata__": {"format": "pt"},
        "a": entry("F32", [2, 3], 0, 24),
        "b": entry("I64", [], 24, 32),
        "c": entry("F16", [4], 32, 40),
    }
    found = inspect(write(tmp_path / "m.safetensors", header, bytes(40)))
    assert (found.format, found.parameters) == ("safetensors", 10)
    assert found.precisions == {"fp16": 1, "fp32": 1, "int64": 1}
    assert [(layer.name, layer.shape, layer.precision) for layer in found.layers] == [
        ("a", (2, 3), "fp32"),
        ("b", (), "int64"),
        ("c", (4,), "fp16"),
    ]
    assert found.notes == ("metadata: format=pt",)


def test_no_torch_is_loaded_for_safetensors(tmp_path):
    path = write(tmp_path / "m.safetensors", {"a": entry("F32", [1], 0, 4)}, bytes(4))
    code = "import sys, pathlib; from edgekit.inspection import inspect; inspect(pathlib.Path(sys.argv[1])); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"not json", b""),
        ({"a": entry("F32", [2], 0, 8)}, b"\0" * 4),
        ({"a": entry("F32", [2], 0, 12)}, b"\0" * 12),
        ({"a": entry("F99", [1], 0, 4)}, b"\0" * 4),
        ({"a": entry("F32", [-1], 0, 4)}, b"\0" * 4),
        ({"a": {"dtype": "F32"}}, b""),
        ({"a": 5}, b""),
        ([1], b""),
        (b"[" * 100_000, b""),
        ({}, b""),
    ],
)
def test_a_wrong_header_is_one_line(tmp_path, header, data):
    with pytest.raises(SourceError) as caught:
        inspect(write(tmp_path / "bad.safetensors", header, data))
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"\xff" * 8, b"\x10", struct.pack("<Q", 1 << 60)])
def test_a_header_longer_than_the_file_is_refused(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="truncated or no safetensors"):
        inspect(path)


def test_a_state_dict(tmp_path):
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, tmp_path / "m.pth")
    found = inspect(tmp_path / "m.pth")
    assert found.format == "pytorch"
    assert found.parameters == sum(p.numel() for p in module.parameters())
    assert found.layers[0].shape == (4, 3, 3, 3)
    assert any("state_dict" in note for note in found.notes)
    assert any("8 values are running statistics" in note for note in found.notes)


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL"],)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("EVIL", str(tmp_path / "ran"))
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(SourceError):
        inspect(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def checkpoint_folder(tmp_path, config='{"model_type": "bert", "architectures": ["BertModel"]}'):
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    write(tmp_path / "model-00001-of-00002.safetensors", {"a": entry("F32", [2], 0, 8)}, bytes(8))
    write(tmp_path / "model-00002-of-00002.safetensors", {"b": entry("F32", [3], 0, 12)}, bytes(12))
    return tmp_path


def test_a_checkpoint_folder_with_shards(tmp_path):
    found = inspect(checkpoint_folder(tmp_path))
    assert (found.format, found.producer, found.parameters) == ("transformers", "bert: BertModel", 5)
    assert found.files == ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.mark.parametrize("config", ["[1", "[]", '"text"'])
def test_a_damaged_config_is_named(tmp_path, config):
    with pytest.raises(SourceError, match=r"config\.json: is not readable"):
        inspect(checkpoint_folder(tmp_path, config))


def test_a_config_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SourceError, match="no weights"):
        inspect(tmp_path)


def test_folders_that_stages_made(tmp_path, float_onnx):
    from edgekit.core.artifacts import Artifact, Checkpoint

    made = tmp_path / "artifact"
    made.mkdir()
    (made / "model.onnx").write_bytes(float_onnx.read_bytes())
    Artifact.describe(made, format="onnx", file="model.onnx", precision="fp32", inputs=(), outputs=())
    assert inspect(made).format == "onnx"
    stage = tmp_path / "checkpoint"
    stage.mkdir()
    write(stage / "model.safetensors", {"a": entry("F32", [1], 0, 4)}, bytes(4))
    Checkpoint.describe(stage, "pytorch", "module", {})
    assert inspect(stage).parameters == 1


def test_a_folder_that_is_nothing_names_the_models_in_it(tmp_path, float_onnx):
    with pytest.raises(SourceError, match=r"no checkpoint folder.*tiny\.onnx"):
        inspect(tmp_path)


@pytest.mark.parametrize(("name", "message"), [("absent.onnx", "no such file"), ("m.gguf", "does not know"), ("empty.tflite", "is empty")])
def test_what_can_not_be_inspected(tmp_path, name, message):
    if name != "absent.onnx":
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"GGUF")
    with pytest.raises(SourceError, match=message) as caught:
        inspect(tmp_path / name)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["artifact.json", "checkpoint.json"])
@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"inputs": [1], "outputs": []}'])
def test_a_damaged_description_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SourceError):
        inspect(tmp_path)
