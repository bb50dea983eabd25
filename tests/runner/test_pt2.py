"""Exported programs are read as data: what torch.export.load computes, without what it would execute."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.runner import RunnerError, load


class Sizes(nn.Module):
    """Arithmetic on sizes, several results of one operator, lists of tensors, constants, tied weights, a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.register_buffer("offset", torch.arange(6.0), persistent=False)
        self.register_buffer("mask", torch.tensor([True, False] * 3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = x.reshape(x.shape[0] * 2, -1)
        left, right = x.chunk(2, dim=1)
        x = self.second(self.first(torch.cat([right, left], 1))) + self.offset
        values, places = x.topk(2, dim=-1)
        x = torch.where(self.mask, x, torch.tensor(float("-inf"))).softmax(-1)
        return x, values, places, x.sum(-1).to(torch.float64), x > 0.5


class Regions(nn.Module):
    """Regions without gradients and without autocast, changes in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            scale, shift = x.std(), x.mean()
        with torch.autocast("cpu", enabled=False):
            x = (x - shift) / scale
        x = x.clone()
        x[:, 0] = 1.0
        return x.relu_()


class InPlace(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)


def saved(module: nn.Module, path: Path, example: torch.Tensor) -> Path:
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.export.save(program, path)
    return path


@pytest.mark.parametrize("module", [Sizes, Regions, nn.LSTM, nn.MultiheadAttention], ids=lambda m: m.__name__)
def test_same_numbers_as_the_module(module: Callable[..., nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    made: nn.Module = {
        "LSTM": lambda: Called(nn.LSTM(6, 4, batch_first=True)),
        "MultiheadAttention": lambda: Called(nn.MultiheadAttention(6, 2, batch_first=True), 3),
    }.get(module.__name__, module)()
    model = load(saved(made, tmp_path / "m.pt2", torch.randn(2, 4, 6) if isinstance(made, Called) else torch.randn(2, 12)), "pytorch")
    for batch in (1, 2, 5):
        x = torch.randn(batch, 4, 6) if isinstance(made, Called) else torch.randn(batch, 12)
        with torch.inference_mode():
            wanted = made(x.clone())
        found = list(model.run({model.inputs[0].name: x.numpy()}).values())
        for array, tensor in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            assert array.dtype == tensor.numpy().dtype
            np.testing.assert_allclose(array, tensor.numpy(), rtol=0, atol=1e-6)


class Called(nn.Module):
    def __init__(self, inner: nn.Module, times: int = 1) -> None:
        super().__init__()
        self.inner, self.times = inner, times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(*[x] * self.times)[0]
        return result


def test_programs_that_write_into_their_inputs_leave_the_callers_arrays(tmp_path: Path) -> None:
    model = load(saved(InPlace(), tmp_path / "m.pt2", torch.randn(2, 3)), "pytorch")
    x = np.ones((2, 3), np.float32)
    for _ in range(2):
        assert model.run({"x": x})[model.outputs[0].name].tolist() == [[2.0] * 3] * 2
    assert x.tolist() == [[1.0] * 3] * 2


def test_files_of_others_are_described_by_their_own_names(tmp_path: Path) -> None:
    model = load(saved(Sizes(), tmp_path / "m.pt2", torch.randn(2, 12)), "pytorch")
    assert [(i.name, i.dtype, i.shape) for i in model.inputs] == [("x", "float32", ("batch", 12))]
    assert [o.dtype for o in model.outputs] == ["float32", "float32", "int64", "float64", "bool"]


def test_no_heavy_machinery_is_loaded(tmp_path: Path) -> None:
    path = saved(Regions(), tmp_path / "m.pt2", torch.randn(2, 3))
    code = (
        f"import sys, pathlib; from edgekit.runner import load; load(pathlib.Path({str(path)!r}), 'pytorch');"
        "print(sorted({'sympy', 'torch._dynamo', 'torch._inductor'} & set(sys.modules)))"
    )
    home = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=home)
    assert done.stdout.strip() == "[]"


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def rewritten(path: Path, changes: dict[str, Callable[[bytes], bytes]], extra: dict[str, bytes] | None = None) -> Path:
    """Change members of a saved program."""
    out = path.with_name("evil.pt2")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for info in source.infolist():
            name = info.filename.partition("/")[2]
            target.writestr(info.filename, changes.get(name, lambda content: content)(source.read(info)))
        for name, content in (extra or {}).items():
            target.writestr(name, content)
    return out


def edited(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        tree = json.loads(content)
        change(tree)
        return json.dumps(tree).encode()

    return apply


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(Called(nn.LSTM(6, 4, batch_first=True)), tmp_path_factory.mktemp("pt2") / "m.pt2", torch.randn(2, 4, 6))


def first_weight(config: Any) -> Any:
    return next(iter(config["config"].values()))


def test_pickled_weights_are_refused_and_not_opened(plain: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = rewritten(
        plain,
        {
            "data/weights/model_weights_config.json": edited(lambda c: first_weight(c).update(use_pickle=True)),
            "data/weights/weight_0": lambda _: pickle.dumps(Bomb(mark)),
        },
    )
    with pytest.raises(RunnerError, match="weight_0 is pickled, which could run code") as caught:
        load(evil, "pytorch")
    assert caught.value.kind == "model"
    assert not mark.exists()


def test_pickled_examples_and_expressions_are_never_evaluated(plain: Path, tmp_path: Path) -> None:
    def expression(mark: Path) -> Callable[[Any], None]:
        def change(tree: Any) -> None:
            text = f"__import__('os').mkdir({str(mark)!r})"
            tree["guards_code"] = [text]
            tree["range_constraints"] = {text: {"min_val": 1, "max_val": 9}}
            for value in tree["graph_module"]["graph"]["tensor_values"].values():
                for size in value["sizes"]:
                    if "as_expr" in size:
                        size["as_expr"]["expr_str"] = text

        return change

    marks = [tmp_path / "example", tmp_path / "expression"]
    for mark, changes in (
        (marks[0], {"data/sample_inputs/model.pt": lambda _: pickle.dumps(Bomb(marks[0]))}),
        (marks[1], {"models/model.json": edited(expression(marks[1]))}),
    ):
        evil = rewritten(plain, changes)
        model = load(evil, "pytorch")
        assert model.run({"x": np.zeros((1, 4, 6), np.float32)})
        assert not mark.exists()
        # The danger is real: PyTorch's own loader does run it.
        logging.disable(logging.CRITICAL)
        with suppress(Exception):  # how it fails does not matter here
            torch.export.load(shutil.copy(evil, tmp_path / "copy.pt2"))
        logging.disable(logging.NOTSET)
        assert mark.exists()


def node(tree: Any) -> Any:
    return tree["graph_module"]["graph"]["nodes"][0]


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("torch.ops.aten.from_file.default", "aten.from_file.default"),
        ("torch.load", "torch.load"),
        ("torch.ops.aten.relu.nonsense", "aten.relu.nonsense"),
        ("torch.ops.aten.__class__.mro", "aten.__class__.mro"),
        ("torch.ops.mine.op.default", "mine.op.default"),
        ("torch.ops.higher_order.cond", "operator cond"),
        ("_operator.methodcaller", "_operator.methodcaller"),
        ("os.system", "os.system"),
        ("#inductor:x", "#inductor:x"),
    ],
)
def test_only_aten_operators_are_admitted(plain: Path, target: str, named: str) -> None:
    evil = rewritten(plain, {"models/model.json": edited(lambda tree: node(tree).update(target=target))})
    with pytest.raises(RunnerError, match=f"asks for the operator.*{named.split()[-1]}"):
        load(evil, "pytorch")


def outside(config: Any) -> None:
    first_weight(config)["tensor_meta"]["sizes"] = [{"as_int": 1 << 40}]
    first_weight(config)["tensor_meta"]["strides"] = [{"as_int": 1}]


@pytest.mark.parametrize(
    ("member", "change", "words"),
    [
        ("models/model.json", edited(lambda tree: tree["schema_version"].update(major=9)), "schema version 9"),
        ("models/model.json", edited(lambda tree: tree.pop("graph_module")), "KeyError 'graph_module'"),
        ("models/model.json", edited(lambda tree: node(tree)["inputs"][0]["arg"].update(as_int=3)), "unpack"),
        ("models/model.json", lambda content: content[:-100], "char"),
        ("data/weights/model_weights_config.json", edited(outside), "out of bounds|setStorage"),
        ("data/weights/weight_0", lambda content: content[:5], "multiple|divisible|size"),
    ],
    ids=["schema", "key", "argument", "json", "outside", "short"],
)
def test_damaged_members_are_model_errors(plain: Path, member: str, change: Callable[[bytes], bytes], words: str) -> None:
    with pytest.raises(RunnerError, match=words) as caught:
        load(rewritten(plain, {member: change}), "pytorch")
    assert caught.value.kind == "model"


def test_names_in_a_file_do_not_become_code(plain: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    name = f"x=__import__('os').mkdir({str(mark)!r})"

    def rename(content: bytes) -> bytes:
        return content.replace(b'"p_inner_weight_ih_l0"', json.dumps(name).encode())

    model = load(rewritten(plain, {"models/model.json": rename}), "pytorch")
    model.run({"x": np.zeros((1, 4, 6), np.float32)})
    assert not mark.exists()
