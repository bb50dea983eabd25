"""Ranges that quantization-aware training found, used in place of calibrated ones wherever a graph computes the same tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.algorithms.recognition import recognised
from edgekit.core.errors import QuantizationError
from edgekit.core.quantization import LayerPlan, QuantizationSpec, Trained, TrainedRange

if TYPE_CHECKING:
    import numpy as np

    from edgekit.core.artifacts import Artifact, Batch
    from edgekit.core.plugin import Context

REASON = "range from training"


def trained_for(model: Artifact, spec: QuantizationSpec) -> Trained | None:
    """Return what training left to the quantizer of a model; None for one that was not trained for integers.

    Raises:
        QuantizationError: the weights were trained for another granularity than the recipe asks for.
    """
    if "trained" not in model.metadata:
        return None
    trained = Trained.model_validate(model.metadata["trained"])
    if trained.granularity != spec.granularity:
        raise QuantizationError(
            f"the weights were trained for one scale a {trained.granularity}, the recipe asks for one a {spec.granularity}",
            hint=f"write quantization: {{granularity: {trained.granularity}}}, or give qat granularity: {spec.granularity}",
        )
    return trained


def ranges_of(values: Mapping[str, np.ndarray], trained: Trained) -> dict[str, TrainedRange]:
    """Return the trained range of each tensor that has one.

    Args:
        values: float tensors of the graph on the example, by name.
        trained: what training left.

    Raises:
        QuantizationError: the graph computes none of the tensors.
    """
    found = recognised(values, ((one.signature, one) for one in trained.ranges))
    if not found:
        raise QuantizationError(
            "none of the tensors whose ranges were trained is in this model", hint="run qat as the last pass, with the same calibration set"
        )
    return found


def first_sample(context: Context) -> Batch:
    """The sample on which trained tensors are recognised."""
    return {name: array[:1] for name, array in context.example.items()}


def marked(plan: Sequence[LayerPlan], names: Iterable[str]) -> list[LayerPlan]:
    """Say of the layers whose output has a trained range that it has one."""
    known = set(names)
    return [layer.model_copy(update={"reason": REASON}) if layer.layer in known and not layer.reason else layer for layer in plan]
