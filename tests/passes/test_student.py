from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekit.core.errors import RecipeError, SourceError
from edgekit.core.plugin import Context
from edgekit.passes.student import Student

ARCH = """
from torch import nn


def small(width=4, classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))
"""


@pytest.fixture
def arch(tmp_path: Path) -> str:
    (tmp_path / "small.py").write_text(ARCH, encoding="utf-8")
    return f"{tmp_path}/small.py:small"


def test_it_starts_from_the_seed(arch: str, student: torch.nn.Module, context: Context) -> None:
    work = Student(arch=arch, arguments={"width": 6})
    plan = work.plan(student, context)
    assert plan["parameters"] == 64 * 6 + 6 + 60 + 10
    made = [work.perform(student.eval(), plan, replace(context, seed=seed)).module[1].weight for seed in (0, 0, 1)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    torch.manual_seed(1)
    assert torch.equal(made[2], torch.nn.Linear(64, 6).weight)


def test_another_code_is_another_plan(arch: str, student: torch.nn.Module, context: Context, tmp_path: Path) -> None:
    before = Student(arch=arch).plan(student, context)
    (tmp_path / "small.py").write_text(ARCH.replace("ReLU", "Tanh"), encoding="utf-8")
    assert Student(arch=arch).plan(student, context) != before


def test_it_starts_from_weights(arch: str, student: torch.nn.Module, context: Context, tmp_path: Path) -> None:
    ready = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.ReLU(), torch.nn.Linear(4, 10))
    torch.save({"state_dict": {f"module.{name}": value for name, value in ready.state_dict().items()}}, tmp_path / "ready.pth")
    work = Student(arch=arch, weights=tmp_path / "ready.pth")
    better = work.perform(student.eval(), work.plan(student, context), context)
    assert torch.equal(better.module[1].weight, ready[1].weight)
    assert better.notes[0] == "small takes the model's place: 310 parameters instead of 1,386"
    assert "removed the prefix 'module.' from all keys" in better.notes


def test_weights_are_read_without_running_anything(arch: str, student: torch.nn.Module, context: Context, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "code.pth")
    work = Student(arch=arch, weights=tmp_path / "code.pth")
    with pytest.raises(SourceError, match="holds Python objects"):
        work.perform(student.eval(), work.plan(student, context), context)


def test_other_outputs_are_refused(arch: str, student: torch.nn.Module, context: Context) -> None:
    work = Student(arch=arch, arguments={"classes": 7})
    with pytest.raises(RecipeError, match=r"gives output \[1, 7\], the model gives output \[1, 10\]"):
        work.perform(student.eval(), work.plan(student, context), context)


def test_its_digest_follows_its_files(arch: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"1")
    work = Student(arch=arch, weights=tmp_path / "weights.pth")
    first = work.fingerprint()
    (tmp_path / "weights.pth").write_bytes(b"2")
    second = work.fingerprint()
    (tmp_path / "small.py").write_text(ARCH + "\n", encoding="utf-8")
    third = work.fingerprint()
    assert first["arch"] == second["arch"] != third["arch"]
    assert first["weights"] != second["weights"] == third["weights"]
    with pytest.raises(SourceError, match="no such file"):
        Student(arch=arch, weights=tmp_path / "other.pth").fingerprint()
