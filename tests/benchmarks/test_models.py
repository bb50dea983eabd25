"""Proves the benchmark networks: each must repeat the stored outputs of the checkpoint it was written for."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "benchmarks" / "models"

# file, factory, checkpoint, parameters
NETWORKS = [
    ("resnet_cifar", "resnet20", "cifar10/resnet20-12fca82f.th", 269_722),
    ("resnet_cifar", "resnet32", "cifar10/resnet32-d509ac18.th", 464_154),
    ("resnet_cifar", "resnet56", "cifar10/resnet56-4bfd9763.th", 853_018),
    ("mobilenet_v1_leaky", "mobilenet_v1_x025", "imagenet/mobilenetv1_x0.25_leaky_imagenet.pt", 470_072),
    ("mobilenet_v2_same", "mobilenet_v2", "imagenet/mobilenetv2_1.0_224_dequant_fp32.pt", 3_487_816),
    ("ds_cnn", "ds_cnn", "mlperf_tiny/mlperftiny_kws_dscnn.pt", 23_756),
    ("resnet8", "resnet8", "mlperf_tiny/mlperftiny_resnet8.pt", 78_186),
    ("vww_mobilenet", "vww_mobilenet", "mlperf_tiny/mlperftiny_vww_mbv1025.pt", 216_322),
    ("fastestdet", "fastestdet", "detection/fastestdet_coco.pth", 244_490),
    ("espnetv2", "espnetv2", "segmentation/espnetv2_s1.0_pascal384.pth", 234_021),
]
NAMES = [factory for _, factory, _, _ in NETWORKS]


@pytest.fixture(scope="module")
def data_dir() -> Path:
    """The folder of real checkpoints: EDGEKIT_DATA, by default ../shared/data beside the repository."""
    folder = Path(os.environ.get("EDGEKIT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no checkpoints in {folder}; set EDGEKIT_DATA")
    return folder


def build(file: str, factory: str) -> Any:
    """Load the factory from its file, as `--arch FILE.py:FACTORY` does."""
    spec = importlib.util.spec_from_file_location(f"benchmark_model_{file}", MODELS / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, factory)()


def load_weights(path: Path) -> dict[str, Any]:
    """Read a state dict; some are nested and were saved from DataParallel."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content)
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(("file", "factory", "_checkpoint", "parameters"), NETWORKS, ids=NAMES)
def test_parameter_count(file: str, factory: str, _checkpoint: str, parameters: int) -> None:
    assert sum(p.numel() for p in build(file, factory).parameters()) == parameters


@pytest.mark.parametrize(("file", "factory", "_checkpoint", "_parameters"), NETWORKS, ids=NAMES)
def test_no_module_is_used_twice_or_works_in_place(file: str, factory: str, _checkpoint: str, _parameters: int) -> None:
    """Both break quantizers that annotate the graph module by module."""
    network = build(file, factory).eval()
    calls: dict[str, int] = {}
    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
            assert not getattr(module, "inplace", False), name
    network(torch.zeros(1, *INPUT_SHAPES[file]))
    assert set(calls.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize(("file", "factory", "checkpoint", "_parameters"), NETWORKS, ids=NAMES)
def test_outputs_equal_the_reference(file: str, factory: str, checkpoint: str, _parameters: int, data_dir: Path) -> None:
    network = build(file, factory)
    network.load_state_dict(load_weights(data_dir / checkpoint))
    network.eval()
    inputs, expected = sides((data_dir / checkpoint).with_suffix("").as_posix())
    with torch.inference_mode():
        outputs = network(torch.from_numpy(inputs.astype(np.float32))).numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def sides(reference: str) -> tuple[np.ndarray, np.ndarray]:
    """Input and expected output: stored ones (a detector's input as pixels), or those of the checkpoint's own ONNX graph."""
    if not Path(f"{reference}_ref.npz").is_file():
        session = pytest.importorskip("onnxruntime").InferenceSession(f"{reference}.onnx")
        inputs = np.random.default_rng(0).normal(size=(1, 3, 384, 384)).astype(np.float32)
        return inputs, session.run(None, {"input": inputs})[0]
    stored = np.load(f"{reference}_ref.npz")
    if "input" in stored:
        return stored["input"], stored["logits"]
    return stored["input_u8_bgr"].transpose(0, 3, 1, 2) / 255, stored["output"]


INPUT_SHAPES = {
    "resnet_cifar": (3, 32, 32),
    "mobilenet_v1_leaky": (3, 224, 224),
    "mobilenet_v2_same": (3, 224, 224),
    "ds_cnn": (1, 49, 10),
    "resnet8": (3, 32, 32),
    "vww_mobilenet": (3, 96, 96),
    "fastestdet": (3, 352, 352),
    "espnetv2": (3, 384, 384),
}
