"""The one decision that all quantizers share: what to quantize, how finely, and by which calibration.

Each quantizer honours the whole of it or refuses with an error; none changes a setting silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field, model_validator

from edgekit.core.errors import QuantizationError, closest
from edgekit.core.schema import Schema

Precision = Literal["fp32", "bf16", "fp16", "int8", "int8-static", "int8-dynamic", "int4"]
"""``int8`` lets the task choose between static and dynamic; the others say exactly what is meant. ``int4`` is of weights alone."""

CalibrationMethod = Literal["minmax", "entropy", "percentile", "mse"]


class QuantizationSpec(Schema):
    """How tensors become integers.

    References: Jacob et al. 2018 (arXiv:1712.05877) for affine quantization; Wu et al. 2020 (arXiv:2004.09602) for the
    calibration methods; for ``mse`` Nagel et al. 2021 (arXiv:2106.08295), section 3.1.
    """

    granularity: Literal["channel", "tensor"] = Field("channel", description="One weight scale a channel, or one a tensor.")
    calibration: CalibrationMethod = Field("minmax", description="How activation ranges are found from the calibration samples.")
    percentile: float = Field(99.99, gt=50, le=100, description="Share of values kept in range, in percent; for 'percentile' only.")
    samples: int = Field(300, ge=1, description="Calibration samples to read.")
    exclude: tuple[str, ...] = Field((), description="Layer names or glob patterns that stay in float.")
    min_sqnr: float | None = Field(
        None,
        gt=0,
        description="Signal-to-quantization-noise ratio of the outputs in dB; the noisiest layers stay in float until it is met.",
    )
    group: int | None = Field(
        None,
        ge=16,
        description="Weights of a matrix product that share a scale, for int4 only; else a channel, as in convolutions.",
    )
    symmetric: bool = Field(True, description="Whether zero is the middle of a group's range, for int4 only; else it has a zero point.")

    accuracy_aware: bool = Field(
        False, description="Keep as many layers in float as the budget's max_drop needs, judged on samples that calibration did not see."
    )

    @model_validator(mode="after")
    def _one_scale_or_groups(self) -> QuantizationSpec:
        if self.granularity == "tensor" and self.group is not None:
            raise ValueError("'granularity: tensor' is one scale for all weights, so there are no groups; leave 'group' out")
        return self


class Int8Scheme(Schema):
    """What a backend's int8 kernels expect; belongs to the target, never guessed."""

    activations: Literal["uint8", "int8"] = Field(description="Integer type of the activations.")
    symmetric: bool = Field(description="Whether activations have zero-point 0.")
    reduce_range: bool = Field(description="7-bit weights, for x86 kernels that add u8 x s8 pairs in 16 saturating bits.")


class TrainedRange(Schema):
    """The range of a tensor that training found.

    Attributes:
        name: the module that computes it.
        low: lower end of its grid, at most 0.
        high: upper end, at least 0.
        signature: what it holds on the example, as in :mod:`edgekit.algorithms.recognition`; formats name and arrange tensors differently.
    """

    name: str
    low: float
    high: float
    signature: tuple[float, float, float, float, float]


class Trained(Schema):
    """What quantization-aware training leaves to quantizers.

    Attributes:
        granularity: of the weights, which lie on their grid already.
        weight_bits: bits of this grid.
        ranges: of activations.
    """

    granularity: Literal["channel", "tensor"]
    weight_bits: int
    ranges: tuple[TrainedRange, ...]


class LayerPlan(Schema):
    """What a quantizer decided for one layer."""

    layer: str
    operator: str
    precision: str
    reason: str = ""


def excluded(layers: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """Return the layers that patterns keep in float.

    Raises:
        QuantizationError: a pattern matches no layer; the nearest is named.
    """
    names = list(layers)
    kept: set[str] = set()
    for pattern in patterns:
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            raise QuantizationError(f"exclude pattern {pattern!r} matches no layer", hint=closest(pattern, names))
        kept.update(matching)
    return kept


def refuse_min_sqnr(spec: QuantizationSpec, quantizer: str) -> None:
    """Refuse ``min_sqnr`` in the name of a quantizer that does not measure its layers.

    Raises:
        QuantizationError: the spec has ``min_sqnr``.
    """
    if spec.min_sqnr is not None:
        raise QuantizationError(
            f"{quantizer} does not measure the noise of single layers, so it can't hold min_sqnr",
            hint="leave min_sqnr out, or name noisy layers in 'exclude'",
        )
