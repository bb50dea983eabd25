"""Good things of every kind, of which a test spoils one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml


@dataclass(frozen=True)
class Kit:
    """A tiny network with its data in a folder of the test's own."""

    folder: Path
    arch_file: Path
    weights: Path
    data: Path

    @property
    def arch(self) -> str:
        return f"{self.arch_file}:tiny"

    @property
    def out(self) -> Path:
        return self.folder / "run"

    def file(self, name: str, content: str | bytes = b"") -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def state(self, name: str = "changed.pth", change: Callable[[dict[str, Any]], Any] = lambda state: state) -> Path:
        """Save the tiny network's weights after a change."""
        import torch
        from safetensors.torch import save_file

        state = torch.load(self.weights, weights_only=True)
        changed = change(state)
        content = state if changed is None else changed
        path = self.folder / name
        if path.suffix == ".safetensors":
            save_file(content, path)
        else:
            torch.save(content, path)
        return path

    def dataset(self, name: str = "set.yaml", **changes: Any) -> Path:
        """Write the tiny set's description with some keys changed; None removes one."""
        return self._yaml(name, yaml.safe_load(self.data.read_text()), changes)

    def arrays(self, name: str = "tiny.npz", **changes: Any) -> Path:
        """Write the tiny set's arrays with some changed; None removes one."""
        with np.load(self.folder / "tiny.npz") as stored:
            arrays = {**stored, **changes}
        np.savez(self.folder / name, **{key: value for key, value in arrays.items() if value is not None})
        return self.folder / name

    def recipe(self, **changes: Any) -> Path:
        """Write a good recipe with some keys changed; None removes one."""
        good = {
            "schema": 1,
            "model": {"path": str(self.weights), "arch": self.arch},
            "task": "image_classification",
            "data": str(self.data),
            "formats": ["onnx"],
            "measure": {"enabled": False},
        }
        return self._yaml("recipe.yaml", good, changes)

    def network(self, forward: str, inputs: str = "x") -> list[str]:
        """Arguments for a module with one weight and the given forward."""
        import torch

        code = (
            "import sys\nimport torch\nclass Odd(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.w = torch.nn.Parameter(torch.ones(1, 1, 8, 8))\n"
            f"    def forward(self, {inputs}):\n"
        )
        arch = self.file("odd.py", code + "".join(f"        {line}\n" for line in forward.splitlines()))
        torch.save({"w": torch.ones(1, 1, 8, 8)}, self.folder / "odd.pth")
        return self.compress("odd.pth", arch=f"{arch}:Odd")

    def graph(self, name: str = "model.onnx", change: Callable[[Any], Any] = lambda model: None, **save: Any) -> Path:
        """Save a flattened linear classifier of the tiny images as ONNX, after a change."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        weight = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
        made = helper.make_graph(
            [
                helper.make_node("Flatten", ["image"], ["flat"], "flatten"),
                helper.make_node("MatMul", ["flat", "weight"], ["output"], "product"),
            ],
            "tiny",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(weight, "weight")],
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        change(model)
        path = self.folder / name
        onnx.save(model, path, **save)
        return path

    def compress(self, model: str | Path, *more: str, arch: str | None = None, data: str | Path | None = None) -> list[str]:
        """Arguments of ``edgekit compress`` that measure nothing."""
        words = ["compress", str(self.folder / model), "--data", str(data or self.data), "--format", "onnx", "--no-measure"]
        words += ["-o", str(self.out), "--task", "image_classification"]
        return [*words, *(["--arch", arch] if arch else []), *more]

    def _yaml(self, name: str, content: dict[str, Any], changes: dict[str, Any]) -> Path:
        merged = {key: value for key, value in {**content, **changes}.items() if value is not None}
        return self.file(name, yaml.safe_dump(merged, sort_keys=False))


@pytest.fixture
def kit(tmp_path: Path, arch_file: Path, tiny_weights: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.chdir(tmp_path)
    return Kit(tmp_path, arch_file, tiny_weights, tiny_data)


@pytest.fixture
def refused(kit: Kit, capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Run the program on bad input and check all that must hold of its answer."""
    from edgekit.cli.main import main

    def check(arguments: list[str], culprit: str, code: int = 2) -> None:
        before = set(kit.folder.rglob("*"))
        capfd.readouterr()
        answer = main(arguments)
        said = capfd.readouterr()
        _assert_refusal(answer, said.out, said.err, culprit, code)
        left = [p.name for p in set(kit.folder.rglob("*")) - before if "__pycache__" not in p.parts]
        assert left == [], "something was left behind"

    return check


@pytest.fixture
def refusal() -> Callable[..., None]:
    """Check one answer of the program: (exit code, stdout, stderr, culprit[, wanted exit code])."""
    return _assert_refusal


def _assert_refusal(answer: int, out: str, err: str, culprit: str, code: int = 2) -> None:
    """Check one answer: its exit code, one line that names the culprit, a hint, and nothing else."""
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    hints = [line for line in lines if line.startswith("hint: ")]
    assert answer == code, err
    assert len(errors) == 1, err
    assert culprit in errors[0], err
    assert len(hints) == 1, err
    assert len(hints[0]) > len("hint: x"), err
    assert lines[-2:] == [errors[0], hints[0]], err
    assert all(line.startswith("[") for line in lines[:-2]), err
    assert "Traceback" not in err
    assert "internal error" not in err
    assert out == ""
