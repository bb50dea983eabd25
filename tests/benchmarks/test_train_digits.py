"""Holds the committed digits data and weights to what their script promises."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
DATA = ROOT / "calibration" / "digits.npz"
WEIGHTS = ROOT / "benchmarks" / "digits_cnn.safetensors"


def load_module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"under_test_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_module(ROOT / "benchmarks" / "train_digits.py")
digits_cnn = load_module(ROOT / "benchmarks" / "models" / "digits_cnn.py").digits_cnn


@pytest.fixture(scope="module")
def digits() -> dict[str, Any]:
    with np.load(DATA) as content:
        return dict(content)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_committed_weights_classify_the_held_out_images(digits: dict[str, Any]) -> None:
    network = digits_cnn()
    network.load_state_dict(load_file(WEIGHTS))
    assert script.accuracy(network.eval(), digits["test_x"], digits["test_y"]) >= 0.985
    assert WEIGHTS.stat().st_size < 500_000


def test_data_is_a_stratified_split_without_shared_images(digits: dict[str, Any]) -> None:
    assert digits["train_x"].shape == (1200, 8, 8, 1)
    assert digits["test_x"].shape == (597, 8, 8, 1)
    assert digits["train_x"].dtype == digits["train_y"].dtype == np.uint8
    assert digits["train_x"].max() == 16
    counts = np.bincount(digits["test_y"], minlength=10)
    assert counts.min() >= 58
    assert counts.max() <= 61
    assert not {image.tobytes() for image in digits["train_x"]} & {image.tobytes() for image in digits["test_x"]}


def test_script_makes_the_committed_data_again(digits: dict[str, Any]) -> None:
    pytest.importorskip("sklearn")
    again = script.split_digits()
    assert again.keys() == digits.keys()
    for name, values in again.items():
        np.testing.assert_array_equal(values, digits[name])


@pytest.mark.usefixtures("one_thread")
def test_training_repeats_itself_bit_for_bit(digits: dict[str, Any]) -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(script.SEED)
        network = digits_cnn()
        script.train(network, digits["train_x"][:256], digits["train_y"][:256], epochs=1)
        results.append(network.state_dict())
    for name, values in results[0].items():
        assert torch.equal(values, results[1][name]), name
