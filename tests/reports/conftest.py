"""Sample reports as fixtures."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from edgekit.core.report import Report

SAMPLES = runpy.run_path(str(Path(__file__).parent / "samples.py"))


@pytest.fixture(scope="session")
def full() -> Report:
    return SAMPLES["full_report"]()


@pytest.fixture(scope="session")
def failing() -> Report:
    return SAMPLES["failing_report"]()


@pytest.fixture(scope="session")
def bare() -> Report:
    return SAMPLES["bare_report"]()


@pytest.fixture(scope="session")
def hostile() -> Report:
    return SAMPLES["hostile_report"]()


@pytest.fixture(scope="session")
def evil_text() -> str:
    return SAMPLES["HOSTILE"]
