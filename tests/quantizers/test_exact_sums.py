"""Layers for kernels that add exactly are chosen with exact sums, whatever this CPU's kernels make of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.core.plugin import Context, Exporter, Quantizer
from edgekit.core.quantization import Int8Scheme
from edgekit.core.registry import create


class Bright:
    """Inputs near the top of their range, so that pairs of products pass 16 bits."""

    name = digest = "bright"

    def __len__(self) -> int:
        return 16

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
        for seed in range(min(16, limit or 16)):
            yield {"x": np.random.default_rng(seed).uniform(0.8, 1, (1, 64)).astype(np.float32)}, [None]


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_no_layer_stays_in_float_for_the_saturation_of_another_cpu(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)).eval()
    for layer in (module[0], module[2]):
        nn.init.uniform_(layer.weight, 0.8, 1)  # type: ignore[arg-type]
    samples = Bright()
    scheme = Int8Scheme(activations="uint8", symmetric=False, reduce_range=False)
    context = Context(example=next(samples.batches())[0], calibration=samples, scheme=scheme)  # type: ignore[arg-type]

    class Named(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return module(x)  # type: ignore[no-any-return]

    named = Named()
    named.layers = module
    model = create(Exporter, name, "exporters").write(named.eval(), tmp_path, context)
    quantizer = create(Quantizer, {"use": f"{name}_int8_static", "spec": {"min_sqnr": 30}}, "q")
    assert {layer.precision for layer in quantizer.plan(model, context)} == {"int8-static"}
