"""Shared test material: a tiny network, tiny data, and a store of the test's own."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.resources import data_root

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait for work leave the cores to the other test processes
os.environ.pop("COLUMNS", None)  # of the test runner's own terminal
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nobody answers there: no test asks a hub, whichever test imports its library first

TINY_ARCH = '''
import torch
from torch import nn


class TinyCnn(nn.Module):
    """Two convolutions on 8x8 images with one channel; three classes."""

    def __init__(self, width: int = 8, classes: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(width * 16, classes)

    def forward(self, x):
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.fc(x.flatten(1))


def tiny(width: int = 8):
    return TinyCnn(width)


def no_module():
    return [1, 2, 3]


def raises():
    raise ValueError("no weights today")


constant = 3
'''


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test's stored results to itself, but share virtual environments, which are slow to make."""
    if "EDGEKIT_TEST_CACHE" not in os.environ:
        monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path_factory.mktemp("store")))


@pytest.fixture
def arch_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_arch.py"
    path.write_text(TINY_ARCH, encoding="utf-8")
    return path


@pytest.fixture
def tiny_weights(arch_file: Path) -> Path:
    """State dict of the tiny network, seeded."""
    import torch

    from edgekit.core.factories import find_function

    torch.manual_seed(0)
    path = arch_file.parent / "tiny.pth"
    torch.save(find_function(f"{arch_file}:tiny")().state_dict(), path)
    return path


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """A labelled set of 8x8 images: 40 for calibration, 60 for evaluation, as a YAML file."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)
    labels = rng.integers(0, 3, 100)
    np.savez_compressed(tmp_path / "tiny.npz", x=images, y=labels)
    path = tmp_path / "tiny-set.yaml"
    path.write_text(
        """
schema: 1
name: tiny-set
read: {use: npz, path: tiny.npz, inputs: {image: x}, labels: y}
classes: [circle, square, star]
preprocess: {scale: 0.00392156862745098, layout: nchw}
splits:
  calibration: {rows: [0, 40]}
  evaluation: {rows: [40, 100]}
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real checkpoints and data; tests that need it are skipped without."""
    root = data_root()
    if not (root / "MANIFEST.md").is_file():
        pytest.skip("real data is not here; set EDGEKIT_DATA")
    return root


CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlsym")
"""Audit events before the disk changes; the last one is raised before a system call that Python has no function for."""


@pytest.fixture
def killed() -> Callable[[Callable[[], object]], Iterator[int]]:
    """A function in processes that are killed before its first, its second, ... step on the disk; yields after each death."""

    def each(function: Callable[[], object]) -> Iterator[int]:
        for moment in itertools.count():
            child = os.fork()
            if child == 0:
                _run_until(moment, function)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status in (0, -signal.SIGKILL)
            if status == 0:
                assert moment > 3, "nothing was killed"
                return
            yield moment

    return each


def _run_until(moment: int, function: Callable[[], object]) -> None:
    steps = itertools.count()

    def audit(event: str, details: tuple[object, ...]) -> None:
        reads = event == "open" and not int(str(details[2])) & (os.O_WRONLY | os.O_RDWR) and not Path(str(details[0])).is_dir()
        if event in CHANGES and not reads and next(steps) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(audit)
        function()
    except BaseException:  # noqa: BLE001 - a child process of pytest must end here
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
