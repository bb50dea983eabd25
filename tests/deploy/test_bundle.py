"""A bundle made from a run folder."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import edgekit
from edgekit import compress
from edgekit.cli.main import main
from edgekit.core.errors import InputError, OutputError
from edgekit.core.machine import this_machine
from edgekit.core.recipe import DataChoice, Measuring, Recipe, load_recipe
from edgekit.core.report import load_report
from edgekit.deploy.agent_file import agent_file
from edgekit.deploy.bundle import Wish, make_bundle, open_run
from edgekit.deploy.connection import connect
from edgekit.deploy.flash import flash
from edgekit.deploy.keys import KeyFolder
from edgekit.deploy.reading import verify
from edgekit.runner import load, protocol


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = KeyFolder(tmp_path_factory.mktemp("keys") / "keys")
    folder.create("release", lambda name, new: None)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_onnx):
    """A run folder of the tiny network, uncompressed and unmeasured."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.onnx").write_bytes(tiny_onnx)
    rng = np.random.default_rng(0)
    np.savez(folder / "tiny.npz", x=rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8), y=rng.integers(0, 3, 40))
    (folder / "set.yaml").write_text(
        "schema: 1\nname: tiny-set\nread: {use: npz, path: tiny.npz, inputs: {image: x}, labels: y}\nclasses: [circle, square, star]\n"
        "preprocess: {scale: 1/255, layout: nchw}\nsplits:\n  calibration: {rows: [0, 20]}\n  evaluation: {rows: [20, 40]}\n"
    )
    recipe = Recipe(
        name="Tiny.Net",
        model=str(folder / "tiny.onnx"),
        task="image_classification",
        data=DataChoice(calibration=str(folder / "set.yaml"), evaluation=str(folder / "set.yaml")),
        formats=("onnx",),
        precisions=("fp32",),
        measure=Measuring(enabled=False),
    )
    compress(recipe, out=folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def bundle(run, keys, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "tiny-3.edgekit"
    secret = {"release": keys.secret("release", lambda name, new: None)}
    make_bundle(open_run(run), Wish(version=3, expires="2999-01-01", label="1.0"), path, roots=keys.chain(), keys=secret)
    return path


def inside(path, name):
    with tarfile.open(path) as opened:
        return opened.extractfile(name).read()


def test_it_holds_all_that_a_device_an_application_and_an_auditor_need(bundle):
    with tarfile.open(bundle) as opened:
        names = opened.getnames()
    front = ["manifest.json", "roots.json", "signatures.json"]
    files = ["agent.pyz", "io.json", "labels.txt", "licences.txt", "model/model.onnx", "sbom.cdx.json", "selftest/samples.frames"]
    assert names == [*front, *files]
    assert inside(bundle, "labels.txt") == b"circle\nsquare\nstar\n"
    told = json.loads(inside(bundle, "io.json"))
    assert told["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}]
    assert told["preprocess"]["scale"] == pytest.approx(1 / 255)
    assert (told["postprocess"], told["task"]) == ("softmax", "image_classification")
    manifest = json.loads(inside(bundle, "manifest.json"))
    assert (manifest["name"], manifest["version"], manifest["runtime"]["name"]) == ("tiny-net", 3, "onnxruntime")
    assert manifest["selftest"]["count"] == 8
    assert manifest["provenance"]["calibration"]


def test_the_same_inputs_give_the_same_bytes(run, keys, bundle, tmp_path):
    secret = {"release": keys.secret("release", lambda name, new: None)}
    again = tmp_path / "again.edgekit"
    make_bundle(open_run(run), Wish(version=3, expires="2999-01-01", label="1.0"), again, roots=keys.chain(), keys=secret)
    assert again.read_bytes() == bundle.read_bytes()


def test_it_verifies_flashes_and_passes_its_self_test(bundle, keys, tmp_path):
    assert verify(bundle, keys.root()).files == 7
    with connect(f"dir://{tmp_path}/device") as device:
        found = flash(device, bundle, root=keys.root(), approve=True)
    assert found.state == "good"
    assert found.selftest["samples"] == 8
    assert found.selftest["deviation"] < 1e-6


def test_its_answers_are_those_of_the_targets_kernels(run, keys, tmp_path):
    recipe = load_recipe(run / "recipe.yaml")
    compress(recipe.model_copy(update={"precisions": ("int8",), "targets": ("raspberry-pi-5",)}), out=tmp_path / "out")
    path = tmp_path / "board.edgekit"
    secret = {"release": keys.secret("release", lambda name, new: None)}
    make_bundle(open_run(tmp_path / "out"), Wish(version=1, expires="2999-01-01"), path, roots=keys.chain(), keys=secret)
    stream = io.BytesIO(inside(path, "selftest/samples.frames"))
    frames = [protocol.unpack(stream.readinto)[1] for _ in range(16)]
    model = tmp_path / "out" / "raspberry-pi-5" / "model.onnx"
    sessions = [load(model, "onnxruntime", precision=precision) for precision in ("unsaturated", "f32")]
    exact, native = ([session.run(inputs)["output"] for inputs in frames[::2]] for session in sessions)
    assert np.array_equal([answer["output"] for answer in frames[1::2]], exact)
    assert np.array_equal(exact, native) != this_machine().saturates


@pytest.fixture
def run_of_two_graphs(run, tmp_path):
    """The same run folder with a model of two graphs in it."""
    out = tmp_path / "two"
    shutil.copytree(run, out)
    (out / "host/model.onnx").unlink()
    for name, (fed, kind, shape) in {"image": ("pixel_values", "FLOAT", [1, 1, 8, 8]), "text": ("input_ids", "INT64", [1, 4])}.items():
        nodes = [helper.make_node("Cast", [fed], ["x"], to=TensorProto.FLOAT), helper.make_node("Flatten", ["x"], ["flat"])]
        nodes += [
            helper.make_node("ReduceMean", ["flat"], ["mean"], keepdims=1),
            helper.make_node("Concat", ["mean"] * 2, ["embedding"], axis=1),
        ]
        given = helper.make_tensor_value_info(fed, getattr(TensorProto, kind), shape)
        got = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 2])
        (out / "host" / name).mkdir()
        made = helper.make_model(helper.make_graph(nodes, name, [given], [got]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        (out / "host" / name / "model.onnx").write_bytes(made.SerializeToString())
    told = {"assembly": 1, "program": "two_towers", "settings": {"prompts": [[1, 2, 3], [9, 9, 9]], "scale": 2.0}}
    (out / "host/model.json").write_text(json.dumps({**told, "components": {name: f"{name}/model.onnx" for name in ("image", "text")}}))
    for file in ("report.json", "recipe.yaml"):
        (out / file).write_text((out / file).read_text().replace("host/model.onnx", "host/model.json").replace("set.yaml", "pixels.yaml"))
    described = run.parent / "set.yaml"
    (run.parent / "pixels.yaml").write_text(described.read_text().replace("image: x", "pixel_values: x"))
    return out


def test_a_model_of_several_graphs_travels_and_is_tested_as_one(run_of_two_graphs, keys, tmp_path):
    path, home = tmp_path / "two.edgekit", tmp_path / "device"
    secret = {"release": keys.secret("release", lambda name, new: None)}
    made = make_bundle(open_run(run_of_two_graphs), Wish(version=1), path, roots=keys.chain(), keys=secret)
    assert made.content["model"] == "model/model.json"
    assert {"model/image/model.onnx", "model/text/model.onnx"} < set(made.files)
    with connect(f"dir://{home}") as device:
        found = flash(device, path, root=keys.root(), approve=True)
    assert (found.state, found.selftest["samples"], found.selftest["circumstances"]["components"]) == ("good", 8, 2)
    assert found.selftest["deviation"] < 1e-6


def test_the_bill_of_materials_lists_every_file_by_digest(bundle):
    told = json.loads(inside(bundle, "sbom.cdx.json"))
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    listed = {part["name"]: part["hashes"][0]["content"] for part in told["components"] if part["type"] == "file"}
    assert listed["model/model.onnx"] == hashlib.sha256(inside(bundle, "model/model.onnx")).hexdigest()
    runtime = next(part for part in told["components"] if part["name"] == "onnxruntime")
    assert runtime["licenses"][0]["license"]["name"].startswith("MIT")
    assert told["serialNumber"].startswith("urn:uuid:")


def test_the_agent_is_a_plain_archive_that_imports_nothing_of_edgekit():
    with zipfile.ZipFile(io.BytesIO(agent_file())) as opened:
        names = opened.namelist()
        assert all(info.compress_type == zipfile.ZIP_STORED for info in opened.infolist())
        text = b"".join(opened.read(name) for name in names).decode()
    assert "edgekit_device/agent/install.py" in names
    assert "edgekit_device/runner/runtimes/onnxruntime.py" in names
    assert "from edgekit." not in text
    assert "import edgekit\n" not in text


WRONG_WISHES = {
    "tests nothing": {"tolerance": 0.5},
    "manifest.name": {"name": "Ünder"},
    "expires": {"expires": "soon"},
    "is no day": {"expires": "2999-02-31"},
    "is past": {"expires": "2020-01-01"},
    "label": {"label": "a\nb"},
}


@pytest.mark.parametrize(("words", "wish"), WRONG_WISHES.items(), ids=WRONG_WISHES)
def test_a_wish_that_makes_no_valid_bundle(run, tmp_path, words, wish):
    with pytest.raises(InputError, match=words):
        make_bundle(open_run(run), Wish(version=1, **wish), tmp_path / "x", roots=[], keys={})
    assert not (tmp_path / "x").exists()


def test_a_key_that_the_root_does_not_trust(run, keys, tmp_path):
    elsewhere = KeyFolder(tmp_path / "keys")
    elsewhere.create("stranger", lambda name, new: None)
    secret = {"stranger": elsewhere.secret("stranger", lambda name, new: None)}
    with pytest.raises(InputError, match="'stranger' is not trusted for bundles"):
        make_bundle(open_run(run), Wish(version=1), tmp_path / "x", roots=keys.chain(), keys=secret)
    assert not (tmp_path / "x").exists()


def test_a_run_that_failed_its_budget(run, tmp_path):
    shutil.copytree(run, tmp_path / "out")
    report = load_report(run)
    target = report.targets[0].model_copy(update={"status": "fail", "reason": "too slow"})
    (tmp_path / "out/report.json").write_text(report.model_copy(update={"targets": (target,)}).to_json())
    with pytest.raises(InputError, match="failed its budget: too slow"):
        open_run(tmp_path / "out")


def test_a_run_for_a_profile_of_the_users_own(run, tmp_path):
    bundled = Path(edgekit.__file__).parent.parent / "targets" / "x86-avx2.yaml"
    (tmp_path / "kiosk.yaml").write_text(bundled.read_text().replace("x86-avx2", "kiosk"))
    recipe = load_recipe(run / "recipe.yaml").model_copy(update={"targets": (str(tmp_path / "kiosk.yaml"),), "formats": ("onnx",)})
    compress(recipe, out=tmp_path / "out")
    assert open_run(tmp_path / "out").target.name == "kiosk"


def test_a_run_without_that_target(run):
    with pytest.raises(InputError, match="holds no model for raspberry-pi-4"):
        open_run(run, "raspberry-pi-4")


def test_a_folder_in_the_way(run, tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        make_bundle(open_run(run), Wish(version=1), tmp_path, roots=[], keys={})


def test_a_bundle_that_lacks_signatures_is_told_as_json_too(run, keys, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["bundle", str(run), "--version", "9", "--keys", str(keys.path), "--unsigned", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["version"], told["signed_by"], told["threshold"]) == ("tiny-net", 9, [], 1)
    assert main([*words, "--key", "release"]) == 2
    assert "--unsigned" in capsys.readouterr().err


def test_the_command(run, keys, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", str(run), "--version", "9", "--keys", str(keys.path)]) == 0
    assert "Tiny.Net-9.edgekit: tiny-net 9 for host" in capsys.readouterr().out
    assert main(["bundle", str(run), "--version", "9", "--keys", str(tmp_path / "none")]) == 2
    assert "no key in" in capsys.readouterr().err
    assert main(["bundle", str(tmp_path), "--version", "9"]) == 2
