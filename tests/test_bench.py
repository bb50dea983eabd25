"""Timing of modules in memory: the bigger one takes longer, and all of them run where they are meant to."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench import RuntimeBench
from edgekit.core.errors import HostError
from edgekit.core.plugin import Exporter, RuntimeSettings
from edgekit.core.recipe import Measuring
from edgekit.core.registry import create


def bench(runtime: str = "openvino") -> RuntimeBench:
    return RuntimeBench(create(Exporter, "openvino", "exporters"), runtime, RuntimeSettings(), Measuring(rounds=3, round_seconds=0.01))


def test_the_bigger_module_takes_longer() -> None:
    from torch import nn

    example = {"image": np.zeros((1, 16, 32, 32), np.float32)}
    small, big = (nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(n))).eval() for n in (1, 12))
    times = bench().race([big, small], example)
    assert times[0] > 3 * times[1] > 0


def test_circumstances_name_runtime_and_machine() -> None:
    told = bench().circumstances
    assert (told["format"], told["runtime"], told["threads"]) == ("openvino", "openvino", 1)
    assert "openvino" in told["versions"]
    assert told["machine"]["cpu"]


def test_a_module_that_does_not_run_is_told() -> None:
    from torch import nn

    with pytest.raises(HostError, match="does not run in onnxruntime"):
        bench("onnxruntime").race([nn.Conv2d(1, 1, 1).eval()], {"image": np.zeros((1, 1, 4, 4), np.float32)})
