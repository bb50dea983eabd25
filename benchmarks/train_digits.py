"""Trains the digits network and writes the digits data set, so that the repository's own example can be made again from nothing.

    python -m benchmarks.train_digits

writes `calibration/digits.npz` and `benchmarks/digits_cnn.safetensors`: the same bytes every time on the same machine and library versions.
The images are the 1,797 of scikit-learn's `load_digits` (Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
SEED = 0
TEST_SAMPLES = 597
EPOCHS = 20
BATCH_SIZE = 64
LEARNING_RATE = 3e-3


def split_digits() -> dict[str, NDArray[Any]]:
    """Split the digits, stratified by class: 1,200 to train and calibrate, 597 to judge.

    Returns:
        `train_x`, `test_x` uint8 [N, 8, 8, 1] with grey values 0..16, and `train_y`, `test_y` uint8 [N].
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images, labels = digits.images.astype("uint8")[..., None], digits.target.astype("uint8")
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=TEST_SAMPLES, stratify=labels, random_state=SEED)
    return {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y}


def to_input(images: NDArray[Any]) -> Tensor:
    """Turn uint8 [N, 8, 8, 1] into the network's float32 [N, 1, 8, 8], values 0..1."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 16


def train(network: nn.Module, images: NDArray[Any], labels: NDArray[Any], epochs: int) -> None:
    """Train in place with AdamW and a one-cycle schedule (Smith and Topin 2018, "Super-Convergence")."""
    import torch
    from torch.nn.functional import cross_entropy

    x, y = to_input(images), torch.from_numpy(labels).long()
    steps = len(x) // BATCH_SIZE
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs * steps)
    order = torch.Generator().manual_seed(SEED)
    network.train()
    for _ in range(epochs):
        shuffled = torch.randperm(len(x), generator=order)
        for step in range(steps):
            rows = shuffled[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
            # Smoothed labels keep the logits small, which leaves int8 finer steps.
            loss = cross_entropy(network(x[rows]), y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    network.eval()


def accuracy(network: nn.Module, images: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of images classified correctly, 0..1."""
    import torch

    with torch.inference_mode():
        predicted = network(to_input(images)).argmax(1).numpy()
    return float((predicted == labels).mean())


def main() -> None:
    """Write the data, train, judge, write the weights."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from benchmarks.models.digits_cnn import digits_cnn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "calibration" / "digits.npz", help="data set to write")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "benchmarks" / "digits_cnn.safetensors", help="weights to write")
    given = parser.parse_args()
    # More threads would add up in another order and change the last bits.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    started = time.monotonic()
    digits = split_digits()
    np.savez_compressed(given.data, allow_pickle=False, **digits)
    network = digits_cnn()
    train(network, digits["train_x"], digits["train_y"], EPOCHS)
    save_file(network.state_dict(), given.checkpoint)
    right = accuracy(network, digits["test_x"], digits["test_y"])
    print(f"{right:.4f} of {TEST_SAMPLES} test images right, {time.monotonic() - started:.0f} s")
    print(f"written: {given.data}, {given.checkpoint}")


if __name__ == "__main__":
    main()
