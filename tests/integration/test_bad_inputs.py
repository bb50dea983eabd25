"""Recipes, data, targets, options and places that are wrong in every way people manage: one line, a hint, the right exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit

MODULE = [sys.executable, "-m", "edgekit"]


def recipe(kit, **changes: Any) -> list[str]:
    return ["compress", str(kit.recipe(**changes)), "-o", "run"]


def written(kit, text: str | bytes) -> list[str]:
    return ["compress", str(kit.file("recipe.yaml", text)), "-o", "run"]


def dataset(kit, **changes: Any) -> list[str]:
    return kit.compress(kit.graph(), data=kit.dataset(**changes))


def arrays(kit, **changes: Any) -> list[str]:
    """A set whose arrays are changed by functions of the good ones; None leaves one out."""
    with np.load(kit.folder / "tiny.npz") as good:
        made = {name: change(good[name].copy()) if change else None for name, change in changes.items()}
    kit.arrays(**made)
    return kit.compress(kit.graph(), "--measure", data=kit.data)


def reading(kit, **read: Any) -> list[str]:
    return dataset(kit, read={"use": "npz", "path": "tiny.npz", "inputs": {"image": "x"}, "labels": "y", **read})


def splits(kit, **wanted: Any) -> list[str]:
    return dataset(kit, splits={"calibration": {"rows": [0, 40]}, "evaluation": {"rows": [40, 100]}, **wanted})


def budget(kit, **limits: Any) -> list[str]:
    return recipe(kit, budget=limits)


def option(kit, *words: str) -> list[str]:
    return kit.compress(kit.graph(), *words)


def pickled_arrays(kit) -> list[str]:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (kit.folder / "executed",))

    images = np.empty(100, object)
    images[:] = [Evil() for _ in images]
    kit.arrays(x=images)
    return kit.compress(kit.graph())


def spoil(array: np.ndarray, value: float) -> np.ndarray:
    array = array.astype(np.float32)
    array[45].flat[0] = value
    return array


def label(labels: np.ndarray, value: int) -> np.ndarray:
    labels[50] = value
    return labels


def repeated(images: np.ndarray) -> np.ndarray:
    images[77] = images[7]
    return images


def loader(kit, code: str, function: str = "samples") -> list[str]:
    kit.file("load.py", code)
    return dataset(kit, read={"use": "loader", "function": f"load.py:{function}"}, splits=None)


def pictures(kit, content: bytes | None) -> list[str]:
    (kit.folder / "pictures" / "cat").mkdir(parents=True)
    if content is not None:
        kit.file("pictures/cat/one.png", content)
    read = {"use": "images", "path": "pictures"}
    return dataset(kit, read=read, splits=None, classes=None)


def place(kit, name: str, make: Callable[[Path], Any] = lambda path: None) -> list[str]:
    make(kit.folder / name)
    return [*kit.compress(kit.graph()), "-o", name]


def foreign(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").touch()


def target_file(kit, text: str, name: str = "mine.yaml") -> list[str]:
    return option(kit, "--target", str(kit.file(name, text)))


def validate(kit, candidate: str | Path, *more: str, reference: str | Path | None = None, data: str | Path | None = None) -> list[str]:
    original = str(reference or kit.graph("original.onnx"))
    return ["validate", str(candidate), "--reference", original, "--data", str(data or kit.data), *more]


def another_network(kit, name: str = "other.onnx") -> Path:
    def rename(model) -> None:
        model.graph.input[0].name = model.graph.node[0].input[0] = "picture"

    return kit.graph(name, rename)


def lonely_xml(kit) -> Path:
    """An OpenVINO graph whose weights stayed behind."""
    import openvino

    openvino.save_model(openvino.convert_model(kit.graph()), kit.folder / "model.xml")
    (kit.folder / "model.bin").unlink()
    return kit.folder / "model.xml"


def renamed_output(kit) -> Path:
    def two(model) -> None:
        model.graph.output.add().CopyFrom(model.graph.output[0])
        model.graph.output[1].name = "flat"
        model.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 64

    return kit.graph("two.onnx", two)


BAD: dict[str, tuple[Callable[[Any], list[str]], str]] = {
    # recipes
    "recipe that is not there": (lambda k: ["compress", "gone.yaml"], "gone.yaml: No such file"),
    "recipe that is a folder": (lambda k: (k.folder / "dir.yaml").mkdir() or ["compress", "dir.yaml"], "dir.yaml: Is a directory"),
    "empty recipe": (lambda k: written(k, ""), "holds no key"),
    "binary recipe": (lambda k: written(k, b"\xff\xfe\0"), "not a text file"),
    "recipe without schema": (lambda k: recipe(k, schema=None), "'schema' is missing"),
    "recipe of another schema": (lambda k: recipe(k, schema=2), "schema"),
    "recipe without a model": (lambda k: recipe(k, model=None), "'model' is missing"),
    "model without a path": (lambda k: recipe(k, model={"arch": "x.py:y"}), "names no path"),
    "recipe without data": (lambda k: recipe(k, data={}), "a run needs data"),
    "unknown recipe key": (lambda k: recipe(k, tagrets=["host"]), "'tagrets'"),
    "unknown budget key": (lambda k: budget(k, max_dorp=1), "'budget.max_dorp'"),
    "unknown quantization key": (lambda k: recipe(k, quantization={"grannularity": "tensor"}), "grannularity"),
    "unknown granularity": (lambda k: recipe(k, quantization={"granularity": "block"}), "granularity"),
    "exclude pattern without a match": (lambda k: recipe(k, model=str(k.graph()), quantization={"exclude": ["prodd*"]}), "'prodd*'"),
    "unknown option of a plugin": (lambda k: recipe(k, task={"use": "image_classification", "outptu": "x"}), "'outptu'"),
    "plugin without a name": (lambda k: recipe(k, task={"output": "x"}), "says not which plugin"),
    "unknown task": (lambda k: recipe(k, task="image_clasification"), "'image_clasification'"),
    "unknown pass": (lambda k: recipe(k, passes=["prunne"]), "'prunne'"),
    "unknown source": (lambda k: recipe(k, model={"use": "keras", "path": "x.h5"}), "'keras'"),
    "plugin that is a path": (lambda k: recipe(k, task="../../etc/passwd"), "'../../etc/passwd'"),
    "targets that are a number": (lambda k: recipe(k, targets=3), "targets"),
    "no targets": (lambda k: recipe(k, targets=[]), "targets"),
    "negative drop": (lambda k: budget(k, max_drop=-1), "max_drop"),
    "drop that is no number": (lambda k: budget(k, max_drop=float("nan")), "max_drop"),
    "drop that is a word": (lambda k: budget(k, max_drop="little"), "max_drop"),
    "name with a slash": (lambda k: recipe(k, name="../../run"), "name"),
    "malformed YAML": (lambda k: written(k, "schema: 1\nmodel: [\n"), "line 3"),
    "YAML that builds objects": (lambda k: written(k, "schema: 1\nmodel: !!python/object/apply:os.mkdir [executed]\n"), "python/object"),
    "key that stands twice": (lambda k: written(k, "schema: 1\nschema: 1\n"), "'schema' stands twice"),
    "key that is a list": (lambda k: written(k, "schema: 1\n? [model]\n: x\n"), "line 2 is not valid YAML: a key is no plain word"),
    "YAML nested without end": (lambda k: written(k, "schema: " + "[" * 3000 + "]" * 3000), "nest"),
    "YAML that grows when written out": (lambda k: written(k, bomb()), "targets"),
    # targets, formats, precisions
    "unknown target": (lambda k: option(k, "--target", "rasberry-pi-4"), "'rasberry-pi-4'"),
    "unknown format": (lambda k: recipe(k, formats=["onxx"]), "'onxx'"),
    "format of PyTorch": (lambda k: recipe(k, formats=["torch"]), "'torch'"),
    "unknown runtime": (lambda k: option(k, "--runtime", "tensorflow"), "tensorflow"),
    "unknown precision": (lambda k: option(k, "--precision", "int7"), "precisions"),
    "precision that the target lacks": (lambda k: option(k, "--target", "jetson-nano", "--precision", "int8"), "jetson-nano"),
    "format that the target does not run": (lambda k: recipe(k, targets=["jetson-orin-nano"], formats=["tflite"]), "tflite"),
    "runtime of another format": (lambda k: option(k, "--runtime", "openvino"), "runs onnx in none of the wanted runtimes"),
    "target file that is malformed": (lambda k: target_file(k, "schema: 1\nname: mine\n"), "mine.yaml"),
    "target file that is not there": (lambda k: option(k, "--target", "gone.yaml"), "gone.yaml"),
    "format that can't be made of a ready graph": (lambda k: recipe(k, model=str(k.graph()), formats=["tflite"]), "graph"),
    # data
    "set that is not there": (lambda k: k.compress(k.graph(), data="gone.yaml"), "gone.yaml"),
    "bundled set that is not there": (lambda k: k.compress(k.graph(), data="cifar11"), "cifar11"),
    "split that is not there": (lambda k: k.compress(k.graph(), data=f"{k.data}:training"), "training"),
    "unknown key in a set": (lambda k: dataset(k, preproces={}), "'preproces'"),
    "set that is a list": (lambda k: k.compress(k.graph(), data=k.file("list.yaml", "- 1\n")), "list.yaml"),
    "unknown reader": (lambda k: reading(k, use="parquet"), "'parquet'"),
    "data file that is not there": (lambda k: reading(k, path="gone.npz"), "gone.npz"),
    "wrong sha256": (lambda k: dataset(k, sha256={"tiny.npz": "0" * 64}), "tiny.npz"),
    "data file that is text": (lambda k: reading(k, path=k.file("text.npz", "hello").name), "text.npz"),
    "data file cut short": (lambda k: reading(k, path=k.file("half.npz", k.arrays().read_bytes()[:3000]).name), "half.npz"),
    "array that is not there": (lambda k: reading(k, labels="labels"), "'labels'"),
    "code in arrays": (pickled_arrays, "tiny.npz"),
    "no samples": (lambda k: arrays(k, x=lambda x: x[:0], y=lambda y: y[:0]), "holds no samples"),
    "fewer labels than samples": (lambda k: arrays(k, y=lambda y: y[:99]), "99"),
    "label beyond the classes": (lambda k: arrays(k, y=lambda y: label(y, 3)), "label 3"),
    "negative label": (lambda k: arrays(k, y=lambda y: label(y, -1)), "label -1"),
    "labels that are fractions": (lambda k: arrays(k, y=lambda y: y + 0.5), "label"),
    "more classes than the model has": (lambda k: [*arrays(k, y=lambda y: label(y, 3)), "--data", str(more_classes(k))], "3"),
    "samples that are NaN": (lambda k: arrays(k, x=lambda x: spoil(x, np.nan)), "NaN"),
    "samples that are infinite": (lambda k: arrays(k, x=lambda x: spoil(x, np.inf)), "NaN or infinite"),
    "samples that are words": (lambda k: arrays(k, x=lambda x: x.astype(str)), "not of numbers"),
    "sample in both sets": (lambda k: arrays(k, x=repeated), "1 of 60"),
    "one set for both": (lambda k: splits(k, evaluation={"rows": [0, 100]}), "40 of 100"),
    "rows beyond the end": (lambda k: splits(k, evaluation={"rows": [40, 101]}), "101"),
    "rows that run backwards": (lambda k: splits(k, evaluation={"rows": [100, 40]}), "rows"),
    "more samples than there are": (lambda k: splits(k, evaluation={"rows": [40, 100], "count": 61}), "61"),
    "data without preprocessing": (lambda k: dataset(k, preprocess=None), "image uint8 [1, 8, 8, 1]"),
    "data in another layout": (lambda k: dataset(k, preprocess={"scale": 0.01, "layout": "nhwc"}), "[1, 8, 8, 1]"),
    "data under another name": (lambda k: reading(k, inputs={"pixels": "x"}), "pixels"),
    "loader that is not there": (lambda k: loader(k, "", "samples"), "samples"),
    "loader that raises": (lambda k: loader(k, "def samples():\n    raise OSError('no disk today')\n"), "no disk today"),
    "loader that exits": (lambda k: loader(k, "def samples():\n    raise SystemExit\n"), "SystemExit"),
    "loader that returns nothing": (lambda k: loader(k, "def samples():\n    pass\n"), "NoneType"),
    "loader without samples": (lambda k: loader(k, "def samples():\n    return []\n"), "holds no samples"),
    "folder without pictures": (lambda k: pictures(k, None), "holds no samples"),
    "damaged picture": (lambda k: pictures(k, b"\x89PNG\r\n\x1a\nnope"), "one.png"),
    # places
    "output that is a file": (lambda k: place(k, "run", Path.touch), "run: is a file"),
    "output below a file": (lambda k: place(k, "tiny.npz/run"), "Not a directory"),
    "output in someone's folder": (lambda k: place(k, "mine", foreign), "mine: is not empty"),
    "output where one is": (lambda k: place(k, "."), "the folder you are in"),
    "output that can't be written": (lambda k: place(k, "/proc/self/run"), "/proc/self/run: can't be written"),
    "output with a name too long": (lambda k: place(k, "x" * 300), "too long"),
    # options
    "unknown command": (lambda k: ["compres", "x"], "compres"),
    "unknown option": (lambda k: option(k, "--fast"), "--fast"),
    "number that is a word": (lambda k: option(k, "--max-drop", "little"), "--max-drop"),
    "number that is none": (lambda k: option(k, "--max-drop", "nan"), "max_drop"),
    "number without end": (lambda k: option(k, "--max-size", "inf"), "max_size"),
    "gate without end": (lambda k: ["compare", "a", "b", "--max-slowdown", "inf"], "max_slowdown"),
    "option without its value": (lambda k: ["compress", "x.onnx", "--data"], "--data"),
    "no model": (lambda k: ["compress"], "CHECKPOINT"),
    "no data": (lambda k: ["compress", str(k.graph())], "a run needs data"),
    "architecture beside a recipe": (lambda k: [*recipe(k), "--arch", "x.py:y"], "--arch"),
    "negative seed": (lambda k: option(k, "--seed", "-1"), "seed"),
    # other commands
    "comparing one run": (lambda k: ["compare", "run"], "two runs"),
    "comparing what is not there": (lambda k: ["compare", "one", "two"], "one: No such file"),
    "comparing what is no report": (lambda k: ["compare", str(k.file("a.json", "{}")), str(k.file("b.json", "{}"))], "a.json"),
    "comparing binary files": (lambda k: ["compare", str(k.file("a.json", b"\xff")), str(k.file("b.json", b"\xff"))], "a.json"),
    "validating what is not there": (lambda k: validate(k, "gone.onnx"), "gone.onnx: no such file"),
    "validating against what is not there": (lambda k: validate(k, k.graph(), reference="gone.onnx"), "gone.onnx"),
    "validating on what is not there": (lambda k: validate(k, k.graph(), data="gone.yaml"), "gone.yaml"),
    "validating no model file": (lambda k: validate(k, k.weights), "tiny.pth: is no model file"),
    "validating a damaged file": (lambda k: validate(k, k.file("bad.onnx", b"nope")), "bad.onnx"),
    "validating another network": (lambda k: validate(k, another_network(k)), "picture"),
    "validating other outputs": (lambda k: validate(k, renamed_output(k)), "output, flat"),
    "validating in a runtime of another format": (lambda k: validate(k, k.graph(), "--runtime", "litert"), "litert"),
    "validating in an unknown runtime": (lambda k: validate(k, k.graph(), "--runtime", "tensorrt9"), "tensorrt9"),
    "validating with a companion missing": (lambda k: validate(k, lonely_xml(k)), "model.bin are missing"),
    "benchmark of what is not there": (lambda k: ["benchmark", "gone.onnx"], "gone.onnx: no such file"),
    "benchmark of different networks": (lambda k: ["benchmark", str(k.graph()), str(another_network(k))], "other.onnx"),
    "benchmark of one model twice": (lambda k: ["benchmark", str(k.graph()), str(k.graph())], "named twice"),
    "benchmark of too few rounds": (lambda k: ["benchmark", str(k.graph()), "--rounds", "1"], "rounds"),
    "benchmark here of a device's model": (lambda k: ["benchmark", str(k.graph()), "--model", "digits"], "--model counts on a device"),
    "benchmark there with a report": (lambda k: ["benchmark", "--to", "dir:///nowhere", "-o", "run"], "--out counts on this machine"),
    "inspecting what is not there": (lambda k: ["inspect", "gone.onnx"], "gone.onnx"),
    "inspecting a damaged file": (lambda k: ["inspect", str(k.file("bad.tflite", b"nope"))], "bad.tflite"),
    "unknown target to show": (lambda k: ["targets", "jetson-nanoo"], "'jetson-nanoo'"),
}


def bomb() -> str:
    """Nine lists of nine of the list before: small as a file, 3 GB as text."""
    lists = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    return "schema: 1\nmodel: x.onnx\ndata: x\ntargets:\n  a: &a [x]\n" + "".join(f"  {line}\n" for line in lists.splitlines())


def more_classes(kit) -> Path:
    return kit.dataset("more.yaml", classes=["circle", "square", "star", "moon"])


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(kit, refused, name):
    make, culprit = BAD[name]
    arguments = make(kit)
    refused(arguments, culprit)
    assert not (kit.folder / "executed").exists()


def program(arguments: list[str], code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run edgekit in a process of its own, after some code."""
    start = f"{code}\nimport sys\nfrom edgekit.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    path = os.pathsep.join([str(Path(edgekit.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(
        [sys.executable, "-c", start, *arguments], capture_output=True, text=True, env=environment, timeout=120, check=False
    )


ABSENT = """
import sys, importlib.abc
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize(
    ("absent", "form"),
    [("openvino", "openvino"), ("nncf", "openvino"), ("onnxruntime", "onnx"), ("onnx", "onnx"), ("litert_torch", "tflite")],
)
def test_a_missing_package_is_named_with_exit_code_3(kit, refusal, absent, form):
    model, arch = (kit.weights, kit.arch) if form == "tflite" else (kit.graph(), None)
    arguments = [word if word != "onnx" else form for word in kit.compress(model, arch=arch)]
    done = program(arguments, ABSENT.format(names=(absent,)))
    refusal(done.returncode, done.stdout, done.stderr, absent.replace("_", "-"), 3)
    assert not kit.out.exists()


def test_a_broken_package_is_named_with_exit_code_3(kit, refusal):
    kit.file("site/openvino.py", "raise ImportError('libtbb.so.12: cannot open shared object file')\n")
    arguments = [word if word != "onnx" else "openvino" for word in kit.compress(kit.graph())]
    done = program(arguments, f"import sys\nsys.path.insert(0, {str(kit.folder / 'site')!r})")
    refusal(done.returncode, done.stdout, done.stderr, "libtbb.so.12", 3)


@pytest.mark.parametrize("limit", [0, 300, 3000])
def test_a_disk_that_takes_no_more_is_told(kit, refusal, limit):
    """A limit on the size of files stands for a full disk where no disk can be filled."""
    code = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    done = program(kit.compress(kit.graph()), code)
    refusal(done.returncode, done.stdout, done.stderr, "File too large")
    assert not kit.out.exists()
    assert not list(kit.folder.glob(".run*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[int], Path]:
    """Mount disks of a few blocks; needs the rights to."""
    made = []

    def mount(kilobytes: int) -> Path:
        folder = tmp_path.parent / f"{tmp_path.name}-disk{len(made)}"
        folder.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], capture_output=True, check=False
        ).returncode:
            pytest.skip("needs the right to mount a disk")
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kilobytes", [4, 16, 40])
def test_a_full_store_is_told_and_holds_nothing_half(kit, refused, small_disk, monkeypatch, kilobytes):
    disk = small_disk(kilobytes)
    monkeypatch.setenv("EDGEKIT_CACHE", str(disk))
    refused(kit.compress(kit.weights, arch=kit.arch), "no space left")
    assert list(disk.rglob(".tmp-*")) == []


def test_a_full_disk_below_the_run_folder_is_told_and_an_earlier_run_stays(kit, refused, small_disk):
    from edgekit.cli.main import main

    assert main(kit.compress(kit.graph())) == 0
    blocks = sum(1 + p.stat().st_size // 4096 for p in kit.out.rglob("*"))
    disk = small_disk(6 * blocks)
    arguments = [*kit.compress(kit.graph()), "-o", str(disk / "run")]
    assert main(arguments) == 0
    before = {p: p.read_bytes() for p in disk.rglob("*") if p.is_file()}
    refused(arguments, f"{disk / 'run'}: no space left")
    assert {p: p.read_bytes() for p in disk.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("place", ["tiny.npz", "tiny.npz/deep", "/proc/self/store"])
def test_a_store_that_can_not_be_made_is_told(kit, refused, monkeypatch, place):
    arguments = kit.compress(kit.graph())
    monkeypatch.setenv("EDGEKIT_CACHE", place)
    refused(arguments, place)


def test_an_unreadable_file_is_told(kit, refused):
    secret = Path("/proc/sys/vm/drop_caches")  # may be written, never read, not even by root
    try:
        secret.read_bytes()
        pytest.skip("this system lets everything be read")
    except OSError:
        pass
    (kit.folder / "secret.pth").symlink_to(secret)
    refused(kit.compress("secret.pth", arch=kit.arch), "ermission denied")


def test_what_a_users_code_prints_stays_off_stdout(kit, capfd):
    import json

    from edgekit.cli.main import main

    chatty = kit.arch_file.read_text() + "\nimport os\nprint('hello from python')\nos.write(1, b'hello from C')\n"
    kit.file("chatty.py", chatty)
    assert main(kit.compress(kit.weights, "--json", arch="chatty.py:tiny")) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["schema"] == 1
    assert "hello from python" in said.err
    assert "hello from C" in said.err


def test_usage_errors_of_the_real_program(refusal):
    done = subprocess.run([*MODULE, "compress", "--max-drop"], capture_output=True, text=True, check=False)
    refusal(done.returncode, done.stdout, done.stderr, "--max-drop")
