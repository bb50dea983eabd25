"""A real tiny model in a real bundle, keys, and a device that is a folder."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit.agent import canonical
from edgekit.core.machine import this_machine
from edgekit.deploy.agent_file import agent_file
from edgekit.runner import load, protocol


@pytest.fixture(scope="session")
def forge() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "agent" / "forge.py")))


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A linear classifier of 8x8 images."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["output"])],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weight, "weight")],
    )
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    return data


@pytest.fixture(scope="session")
def real(forge: SimpleNamespace, tiny_onnx: bytes, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a signed bundle whose self-test is a real one; ``off`` makes the expected outputs wrong by that much."""
    folder = tmp_path_factory.mktemp("bundles")
    model = folder / "tiny.onnx"
    model.write_bytes(tiny_onnx)
    session = load(model, "onnxruntime")
    inputs = {"image": np.random.default_rng(1).normal(size=(1, 1, 8, 8)).astype(np.float32)}
    expected = session.run(inputs)

    def make(version: int = 1, *, off: float = 0.0, name: str = "tiny", extra: bytes = b"{}\n", data: bytes = b"", **changes: Any) -> Path:
        wanted = {key: value + np.float32(off) for key, value in expected.items()}
        frames = b"".join(bytes(piece) for arrays in (inputs, wanted) for piece in protocol.pack({}, arrays))
        files = {"agent.pyz": agent_file(), "io.json": extra, "model/tiny.onnx": tiny_onnx, "selftest/samples.frames": frames}
        if data:
            files["model/tiny.onnx.data"] = data
        host = {"architectures": [this_machine().architecture], "features": [], "memory_mb": None}
        told = {"model": "model/tiny.onnx", "target": host, "runtime": {"at_least": "1.0"}, **changes}
        path = folder / f"{name}-{version}-{off}-{len(extra)}.edgekit"
        path.write_bytes(forge.pack(forge.manifest(files, version=version, name=name, **told), files, [forge.ALICE]))
        return path

    return make


@pytest.fixture
def root_file(forge: SimpleNamespace, tmp_path: Path) -> Path:
    path = tmp_path / "root.json"
    path.write_bytes(canonical.encode(forge.root()))
    return path
