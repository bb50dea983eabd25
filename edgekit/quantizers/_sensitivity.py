"""Chooses the layers that stay in float so that the outputs reach a wished signal-to-noise ratio; formats say how to quantize and run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.algorithms.sensitivity import Noise, decibels, settled
from edgekit.core.errors import QuantizationError

if TYPE_CHECKING:
    from edgekit.core.artifacts import Batch
    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import LayerPlan

Run = Callable[["Batch"], Sequence[np.ndarray]]
"""Runs a loaded model on one sample; returns its outputs in order."""

FLOAT = "fp32"
SAMPLES = 32
BYTES = 64_000_000
"""Samples and reference outputs held in memory at most."""


class Bench:
    """Calibration samples with the float model's outputs, against which quantized models are compared."""

    def __init__(self, data: DataSet, run: Run) -> None:
        self._samples: list[tuple[Batch, Sequence[np.ndarray]]] = []
        size = 0
        for sample, _ in data.batches(1, limit=SAMPLES):
            outputs = run(sample)
            size += sum(array.nbytes for array in (*sample.values(), *outputs))
            self._samples.append((sample, outputs))
            if size > BYTES:
                break

    def noise(self, run: Run) -> float:
        """Noise power of a model's float outputs relative to the signal's."""
        noise = Noise()
        for sample, expected in self._samples:
            found = run(sample)
            floats = [index for index, array in enumerate(expected) if array.dtype.kind == "f"]
            noise.add([expected[index] for index in floats], [found[index] for index in floats])
        return noise.power


def quiet_enough(
    plan: Sequence[LayerPlan],
    candidates: Sequence[str],
    wanted: float,
    context: Context,
    *,
    alone: Callable[[str], float],
    together: Callable[[Sequence[str]], float],
    along: Callable[[Sequence[str]], Mapping[str, str]],
) -> list[LayerPlan]:
    """Return the plan with the fewest further layers in float that let the outputs reach a signal-to-noise ratio.

    Args:
        plan: what would be quantized.
        candidates: layers that are measured and may stay in float.
        wanted: ratio in dB that the outputs must have on calibration samples.
        context: told how far the work has come.
        alone: noise power with one layer quantized and nothing else.
        together: noise power with everything quantized but some layers.
        along: further layers that stay in float along with some layers, with the reason.

    Raises:
        QuantizationError: no candidate can be quantized at that ratio.
    """
    noises: dict[str, float] = {}
    for layer in candidates:
        noises[layer] = alone(layer)
        context.progress.advance(len(noises), len(candidates))
    chosen, reached = settled(noises, wanted, lambda kept: decibels(together(kept)))
    if reached < wanted or (candidates and len(chosen) == len(candidates)):
        ceiling = decibels(min(noises.values(), default=math.inf))
        raise QuantizationError(
            f"outputs at {wanted:g} dB leave no layer in int8", hint=f"ask for less: the quietest layer reaches {ceiling:.0f} dB alone"
        )
    context.progress.note(
        f"{len(chosen)} of {len(candidates)} layers stay in float; outputs then at {reached:.1f} dB on calibration samples"
    )
    others = along(chosen)

    def explained(layer: LayerPlan) -> dict[str, Any]:
        if layer.layer in noises:
            text = f"{decibels(noises[layer.layer]):.1f} dB alone"
            if layer.layer in chosen:
                return {"precision": FLOAT, "reason": f"{text}; kept in float to reach {wanted:g} dB"}
            return {"reason": text}
        if layer.layer in others and layer.precision != FLOAT:
            return {"precision": FLOAT, "reason": others[layer.layer]}
        return {}

    return [layer.model_copy(update=explained(layer)) for layer in plan]
