"""Checkpoints, architectures and model files that are wrong in every way people manage: one line, a hint, nothing executed."""

from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NAMES = ("bad.pth", "bad.safetensors", "bad.onnx")
COUNTING = "self.n = getattr(self, 'n', 0) + 1\nreturn (x * self.w).flatten(1) + self.n"
NAN, INF = float("nan"), float("inf")


class Evil:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def pickled_evil(kit) -> bytes:
    return pickle.dumps(Evil(kit.folder / "executed"))


def damaged(kit, name: str, how: str) -> list[str]:
    whole = (kit.graph("good.onnx") if name.endswith(".onnx") else kit.state(f"good{Path(name).suffix}")).read_bytes()
    contents = {
        "truncated": whole[: len(whole) // 2],
        "random": np.random.default_rng(0).bytes(4096),
        "empty": b"",
        "text": b"hello world\n" * 50,
    }
    kit.file(name, contents[how])
    return kit.compress(name, arch=None if name.endswith(".onnx") else kit.arch)


def state(kit, change, name: str = "changed.pth") -> list[str]:
    return kit.compress(kit.state(name, change), arch=kit.arch)


def evil(kit, name: str = "evil.pth", *, plain: bool = False) -> list[str]:
    import torch

    if plain:
        kit.file(name, pickled_evil(kit))
    else:
        torch.save({"state_dict": Evil(kit.folder / "executed")}, kit.folder / name)
    return kit.compress(name, arch=kit.arch)


def whole_module(kit) -> list[str]:
    import torch

    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), kit.folder / "module.pth")
    return kit.compress("module.pth", arch=kit.arch)


def scripted(kit) -> list[str]:
    import torch

    torch.jit.script(torch.nn.Linear(2, 2)).save(kit.folder / "script.pth")
    return kit.compress("script.pth", arch=kit.arch)


def renamed(kit, name: str) -> list[str]:
    kit.graph().rename(kit.folder / name)
    return kit.compress(name, arch=kit.arch)


def arch(kit, code: str, name: str = "net") -> list[str]:
    kit.file("arch.py", code)
    return kit.compress(kit.weights, arch=f"arch.py:{name}")


def unknown_arguments(kit) -> list[str]:
    model = {"path": str(kit.weights), "arch": kit.arch, "arguments": {"wide": 3}}
    return ["compress", str(kit.recipe(model=model)), "-o", "run"]


def graph(kit, change, **save: Any) -> list[str]:
    return kit.compress(kit.graph("changed.onnx", change, **save))


def external(kit, location: str, *, keep: bool = True) -> list[str]:
    """A graph whose weights lie elsewhere; the file is there, so only the place is wrong."""
    import onnx

    path = kit.graph("away.onnx", save_as_external_data=True, all_tensors_to_one_file=True, location="weights.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    onnx.save(model, path)
    if keep and "/" not in location:
        (kit.folder / "weights.data").rename(kit.folder / location)
    if not keep:
        (kit.folder / "weights.data").unlink()
    return kit.compress(path)


def cut_short(kit) -> list[str]:
    arguments = external(kit, "weights.data")
    kit.file("weights.data", b"few")
    return arguments


def linked_data(kit) -> list[str]:
    arguments = external(kit, "weights.data")
    (kit.folder / "weights.data").rename(kit.folder.parent / f"{kit.folder.name}.secret")
    (kit.folder / "weights.data").symlink_to(kit.folder.parent / f"{kit.folder.name}.secret")
    return arguments


def pretrained(kit, config: dict[str, Any] | str, **files: str | bytes) -> list[str]:
    """A folder as save_pretrained leaves it, with what is given in it."""
    kit.file("bert/config.json", config if isinstance(config, str) else json.dumps(config))
    for name, content in files.items():
        kit.file(f"bert/{name.replace('__', '.')}", content)
    return kit.compress("bert", "--task", "generic")


BERT = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}
REMOTE = {"model_type": "mine", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}, "architectures": ["M"]}
SPY = "open('executed', 'w')\n"


def set_weight(model, value: float) -> None:
    import onnx

    weight = np.array(onnx.numpy_helper.to_array(model.graph.initializer[0]))
    weight[0, 0] = value
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "weight"))


def set_domain(model) -> None:
    model.graph.node[0].domain = "com.acme"
    model.opset_import.add(domain="com.acme", version=1)


def rename_input(model) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "picture"


def set_axes(model, **sizes: int) -> None:
    for axis, size in sizes.items():
        model.graph.input[0].type.tensor_type.shape.dim[int(axis.removeprefix("axis"))].dim_value = size


def take_doubles(model) -> None:
    import onnx

    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["single"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "single"


BAD = {
    **{f"{how} {name}": (partial(damaged, name=name, how=how), name) for name in NAMES for how in ("truncated", "random", "empty", "text")},
    "code in a checkpoint": (evil, "Python objects"),
    "code in a plain pickle": (lambda k: evil(k, plain=True), "Python objects"),
    "code in a .bin": (lambda k: evil(k, "evil.bin"), "Python objects"),
    "code in a .safetensors": (lambda k: evil(k, "evil.safetensors", plain=True), "evil.safetensors"),
    "whole pickled module": (whole_module, "Python objects"),
    "TorchScript": (scripted, "TorchScript"),
    "ONNX named .pth": (lambda k: renamed(k, "model.pth"), "model.pth: is no checkpoint"),
    "ONNX named .safetensors": (lambda k: renamed(k, "model.safetensors"), "model.safetensors"),
    "missing key": (lambda k: state(k, lambda s: {key: value for key, value in s.items() if key != "fc.bias"}), "'fc.bias'"),
    "unknown key": (lambda k: state(k, lambda s: {**s, "head.bias": s["fc.bias"]}), "'head.bias'"),
    "wrong shape": (lambda k: state(k, lambda s: {**s, "fc.bias": s["fc.bias"][:2]}), "[2]"),
    "NaN weights": (lambda k: state(k, lambda s: {**s, "fc.bias": s["fc.bias"] * NAN}), "fc.bias holds NaN"),
    "infinite weights": (lambda k: state(k, lambda s: {**s, "fc.bias": s["fc.bias"] + INF}, "x.safetensors"), "fc.bias holds NaN or inf"),
    "no weights at all": (lambda k: state(k, lambda s: {}), "holds no state dict"),
    "a list of tensors": (lambda k: state(k, lambda s: list(s.values())), "holds no state dict"),
    "sparse weights": (lambda k: state(k, lambda s: {**s, "fc.weight": s["fc.weight"].to_sparse()}), "fc.weight"),
    "complex weights": (lambda k: state(k, lambda s: {**s, "fc.weight": s["fc.weight"] + 1j}), "fc.weight"),
    "quantized integers as weights": (lambda k: state(k, lambda s: {**s, "fc.weight": s["fc.weight"].char()}), "fc.weight"),
    "no such checkpoint": (lambda k: k.compress("gone.pth", arch=k.arch), "gone.pth: no such file"),
    "a folder for a checkpoint": (lambda k: (k.folder / "dir.pth").mkdir() or k.compress("dir.pth", arch=k.arch), "dir.pth"),
    "a folder without a model": (lambda k: (k.folder / "dir").mkdir() or k.compress("dir"), "dir: no source takes"),
    "suffix that nobody takes": (lambda k: k.compress(k.file("model.h5", b"x")), "model.h5"),
    "no architecture": (lambda k: k.compress(k.weights), "architecture"),
    "architecture without a colon": (lambda k: k.compress(k.weights, arch="arch.py"), "names no function"),
    "architecture that is a list": (lambda k: k.compress(k.weights, arch=f"{k.arch_file}:no_module"), "returned list"),
    "architecture that is a number": (lambda k: k.compress(k.weights, arch=f"{k.arch_file}:constant"), "int, not a function"),
    "architecture that raises": (lambda k: k.compress(k.weights, arch=f"{k.arch_file}:raises"), "no weights today"),
    "architecture that is not in its file": (lambda k: k.compress(k.weights, arch=f"{k.arch_file}:tinny"), "'tinny'"),
    "architecture file that is not there": (lambda k: k.compress(k.weights, arch="gone.py:net"), "gone.py"),
    "architecture module that is not there": (lambda k: k.compress(k.weights, arch="no_such_package.nets:net"), "no_such_package"),
    "syntax error in the architecture": (lambda k: arch(k, "def net(:\n"), "SyntaxError"),
    "architecture file that is binary": (lambda k: arch(k, "\0\0"), "arch.py"),
    "architecture that imports what is not there": (lambda k: arch(k, "import nothing_of_that_name\n"), "nothing_of_that_name"),
    "architecture file that exits": (lambda k: arch(k, "import sys\nsys.exit(0)\n"), "arch.py"),
    "architecture that exits": (lambda k: arch(k, "import sys\ndef net():\n    sys.exit(0)\n"), "SystemExit"),
    "architecture that is another class": (lambda k: arch(k, "class Net:\n    pass\n", "Net"), "returned Net"),
    "architecture that wants arguments": (lambda k: arch(k, "def net(width):\n    pass\n"), "'width'"),
    "arguments that the architecture does not know": (unknown_arguments, "'wide'"),
    "forward that fails on the data's shape": (lambda k: k.network("return x @ torch.ones(9, 3)"), "image [2, 1, 8, 8]"),
    "forward that raises": (lambda k: k.network("raise KeyError('mood')"), "KeyError: 'mood'"),
    "forward that exits": (lambda k: k.network("sys.exit(0)"), "SystemExit"),
    "forward that returns text": (lambda k: k.network("return 'cat'"), "returns str"),
    "forward that returns nothing": (lambda k: k.network("pass"), "returns NoneType"),
    "forward that returns a number in a tuple": (lambda k: k.network("return x, 3"), "'output_1' is int"),
    "forward that returns an empty dict": (lambda k: k.network("return {}"), "returns an empty dict"),
    "forward that wants two inputs": (lambda k: k.network("return x * mask", "x, mask"), "mask"),
    "forward that counts its calls": (lambda k: k.network(COUNTING), "differs"),
    "forward that draws random numbers": (lambda k: k.network("return (x * self.w).flatten(1) + torch.rand_like(x).flatten(1)"), "differs"),
    "forward that gives NaN": (lambda k: k.network("return torch.log(x * self.w - 9).flatten(1)"), "nan"),
    "forward for one sample only": (lambda k: k.network("return (x * self.w).reshape(1, 64)[:, :3]"), "image [2, 1, 8, 8]"),
    "operator that ONNX does not have": (lambda k: k.network("return torch.linalg.eigvals(x[:, 0] @ self.w[0, 0]).real"), "linalg_eig"),
    "damaged graph: unknown operator": (lambda k: graph(k, lambda m: setattr(m.graph.node[0], "op_type", "Flatten9")), "Flatten9"),
    "damaged graph: input from nowhere": (lambda k: graph(k, lambda m: m.graph.node[1].input.__setitem__(0, "ghost")), "ghost"),
    "damaged graph: no nodes": (lambda k: graph(k, lambda m: m.graph.ClearField("node")), "holds no graph"),
    "graph with an operator of another company": (lambda k: graph(k, set_domain), "com.acme"),
    "graph of an opset from the future": (lambda k: graph(k, lambda m: setattr(m.opset_import[0], "version", 99)), "99"),
    "graph with NaN weights": (lambda k: graph(k, lambda m: set_weight(m, NAN)), "weight holds NaN"),
    "graph with infinite weights": (lambda k: graph(k, lambda m: set_weight(m, INF)), "weight holds NaN or inf"),
    "graph that wants other inputs than the data gives": (lambda k: graph(k, rename_input), "picture"),
    "graph that wants other numbers than the data gives": (lambda k: graph(k, take_doubles), "float64"),
    "graph that wants another shape": (lambda k: graph(k, partial(set_axes, axis2=4, axis3=16)), "[batch, 1, 4, 16]"),
    "graph for two samples at once": (lambda k: graph(k, partial(set_axes, axis0=2)), "[2, 1, 8, 8]"),
    "external data that is missing": (lambda k: external(k, "weights.data", keep=False), "weights.data is missing"),
    "external data in the folder above": (lambda k: external(k, "../weights.data"), "outside its folder"),
    "external data at an absolute path": (lambda k: external(k, "/etc/passwd"), "outside its folder"),
    "external data behind a link": (linked_data, "weights.data"),
    "external data cut short": (cut_short, "weight"),
    "external data over edgekit's own files": (lambda k: external(k, "checkpoint.json"), "checkpoint.json"),
    "hub id that is not there": (lambda k: ["compress", "nobody/nothing", "--data", str(k.data), "-o", "run"], "nobody/nothing"),
    "folder without weights": (lambda k: pretrained(k, BERT), "weights"),
    "folder with weights cut short": (lambda k: pretrained(k, BERT, model__safetensors=b"\x10\0\0\0\0\0\0\0{"), "weights"),
    "folder with code in its weights": (lambda k: pretrained(k, BERT, pytorch_model__bin=pickled_evil(k)), "Python objects"),
    "folder whose configuration is damaged": (lambda k: pretrained(k, "{"), "configuration"),
    "folder of an unknown kind": (lambda k: pretrained(k, {"model_type": "perceptron9000"}), "configuration"),
    "folder with code of its own": (lambda k: pretrained(k, REMOTE, code__py=SPY), "code"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_model_is_refused_in_one_line(kit, refused, name):
    make, culprit = BAD[name]
    arguments = make(kit)
    refused(arguments, culprit)
    assert not (kit.folder / "executed").exists()
