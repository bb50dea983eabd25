from __future__ import annotations

import platform

import pytest

from edgekit.agent import device, fit, manifest
from edgekit.runner import runtime_class, runtime_names


def test_runtimes_are_those_of_the_runner_under_the_same_distributions():
    assert set(device.DISTRIBUTIONS) == set(runtime_names()) == set(manifest.RUNTIMES)
    for name, distributions in device.DISTRIBUTIONS.items():
        assert runtime_class(name).PACKAGES[0] in distributions


def test_a_probe_says_what_a_bundle_is_compared_with(tmp_path):
    found = device.probe(tmp_path / "not" / "there")
    assert found["architecture"] == platform.machine()
    assert found["runtimes"]["numpy"]
    assert found["memory_mb"] > 100
    assert found["free_mb"] > 0


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1.31.1", (1, 31, 1)), ("2.13.0+cpu", (2, 13, 0)), ("1.32rc1", (1, 32)), ("2026.4.1-1", (2026, 4, 1)), ("odd", (0,))],
)
def test_versions(text, numbers):
    assert fit.version(text) == numbers


def test_trtexec_is_found_on_path_or_where_jetpack_puts_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(device, "_TRTEXEC", str(tmp_path / "elsewhere"))
    assert device.trtexec() is None
    (tmp_path / "elsewhere").write_text("#!/bin/sh\n")
    (tmp_path / "elsewhere").chmod(0o755)
    assert device.trtexec() == str(tmp_path / "elsewhere")
