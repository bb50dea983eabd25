"""The forge and a device that trusts Alice."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture(scope="session")
def forge() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "forge.py")))


@pytest.fixture
def device(forge: SimpleNamespace, tmp_path: Path) -> Any:
    return forge.Device(tmp_path / "device", trusted=forge.root())
