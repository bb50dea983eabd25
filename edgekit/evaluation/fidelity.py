"""Whether an export computes what the original computes: a wrong layout or a lost epsilon is found here, not in the accuracy.

Floating-point sums come out differently in every runtime, by about the rounding error of the numbers summed. So a difference is
judged against the element itself and against the typical size of its output, never against zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from edgekit.core.artifacts import Batch
from edgekit.core.errors import ExportError
from edgekit.core.plugin import Session
from edgekit.evaluation.outputs import align

TOLERANCES: dict[str, tuple[float, float]] = {
    "fp32": (1e-4, 1e-4),
    "fp16": (2e-2, 2e-2),
    "bf16": (1e-1, 1e-1),
}
"""Absolute (in units of the output's root mean square) and relative tolerance. Sound fp32 exports of real networks stay below 3e-6; half
precision keeps 11 bits and bfloat16 8, and a network loses one to three of them on its way."""

_SMALLEST_SCALE = 1e-2


@dataclass(frozen=True)
class Fidelity:
    """How far an export is from the original on real inputs.

    Attributes:
        samples: samples compared.
        max_absolute: largest absolute difference.
        max_relative: largest difference in units of the element or, for small elements, of the output's root mean square.
        output: the output where the latter is largest.
    """

    samples: int
    max_absolute: float
    max_relative: float
    output: str


def verify(session: Session, expected: Sequence[tuple[Batch, Batch]], *, absolute: float = 1e-4, relative: float = 1e-4) -> Fidelity:
    """Run an export on real inputs and compare it with the original.

    Args:
        session: the loaded export.
        expected: batches of inputs with the original's outputs on them.
        absolute: tolerated difference in units of the root mean square of an output or channel (at least 0.01), see ``TOLERANCES``.
        relative: tolerated difference in units of the original's element.

    Raises:
        ExportError: says which output differs, at which sample and index, both values, how many elements are off, and what it looks like.
    """
    scales = _scales(expected)
    worst: dict[str, tuple[float, float]] = dict.fromkeys(scales, (0.0, 0.0))
    samples = 0
    for inputs, originals in expected:
        outputs = align(session.run(inputs), list(originals))
        for name, original in originals.items():
            _compatible(name, outputs[name], original)
            difference = _differences(name, outputs[name], original, samples)
            size = np.abs(np.nan_to_num(_wide(original), posinf=0.0, neginf=0.0))
            exact = original.dtype.kind in "biu"
            off = difference > (0.0 if exact else absolute * scales[name] + relative * size)
            if off.any():
                _refuse(name, outputs[name], original, off, samples)
            ratio = difference / np.maximum(size, scales[name])
            worst[name] = (max(worst[name][0], float(ratio.max(initial=0))), max(worst[name][1], float(difference.max(initial=0))))
        samples += len(next(iter(inputs.values())))
    output = max(worst, key=lambda name: worst[name][0])
    return Fidelity(samples, max(largest for _, largest in worst.values()), worst[output][0], output)


def _scales(expected: Sequence[tuple[Batch, Batch]]) -> dict[str, np.ndarray]:
    """Root mean square of each of the original's outputs over all batches.

    The channels of a map [N, C, H, W] may have units of their own (a detector's objectness, sizes and classes), so one whose root mean
    square is larger than the whole output's is judged by its own: [C, 1, 1], which broadcasts.
    """
    squares: dict[str, list[np.ndarray]] = {}
    counts: dict[str, list[np.ndarray]] = {}
    for _, originals in expected:
        for name, values in originals.items():
            wide = _wide(values)
            finite = np.isfinite(wide)
            others = tuple(axis for axis in range(wide.ndim) if axis != 1) if wide.ndim >= 4 else None
            shape = (-1, *[1] * (wide.ndim - 2)) if others else ()
            squares.setdefault(name, []).append(np.sum(np.where(finite, wide, 0.0) ** 2, axis=others).reshape(shape))
            counts.setdefault(name, []).append(np.sum(finite, axis=others).reshape(shape))
    found = {}
    for name, parts in squares.items():
        total, count = np.sum(parts, axis=0), np.sum(counts[name], axis=0)
        whole = (total.sum() / max(1, count.sum())) ** 0.5
        found[name] = np.maximum(np.sqrt(total / np.maximum(1, count)), max(_SMALLEST_SCALE, whole))
    return found


def _compatible(name: str, found: np.ndarray, original: np.ndarray) -> None:
    if found.shape != original.shape:
        hint = "an axis is fixed that should vary, or an output is missing its batch axis"
        if sorted(found.shape) == sorted(original.shape):
            hint = "the axes are the same in another order: the export changed the layout (NCHW, NHWC)"
        raise ExportError(f"the export's output {name!r} has shape {found.shape}, the original's {original.shape}", hint=hint)
    if _family(found) != _family(original):
        raise ExportError(
            f"the export's output {name!r} is {found.dtype}, the original's {original.dtype}", hint="cast the output before exporting"
        )


def _family(values: np.ndarray) -> str:
    """Floats of any width are one family, and integers of any width: TFLite narrows int64 to int32."""
    return "integer" if values.dtype.kind in "iu" else values.dtype.kind


def _differences(name: str, found: np.ndarray, original: np.ndarray, done: int) -> np.ndarray:
    """Absolute differences; equal infinities, as masks have them, are no difference, a NaN always is one."""
    if np.isnan(_wide(original)).any():
        place = np.argwhere(np.isnan(_wide(original)))[0]
        raise ExportError(
            f"the original's output {name!r} is nan at {_where(place, done)}", hint="check the checkpoint's weights and the preprocessing"
        )
    a, b = _wide(found), _wide(original)
    with np.errstate(invalid="ignore"):
        difference: np.ndarray = np.where(a == b, 0.0, np.abs(a - b))
    return np.where(np.isnan(difference), np.inf, difference)


def _refuse(name: str, found: np.ndarray, original: np.ndarray, off: np.ndarray, done: int) -> NoReturn:
    a, b = _wide(found), _wide(original)
    with np.errstate(invalid="ignore"):
        distance = np.where(off, np.nan_to_num(np.abs(a - b), nan=np.inf), -1.0)
    place = np.array(np.unravel_index(int(np.argmax(distance)), distance.shape))
    raise ExportError(
        f"the export differs from the original: output {name!r}, {_where(place, done)}: {a[tuple(place)]:.6g} instead of "
        f"{b[tuple(place)]:.6g}; {int(off.sum())} of {off.size} elements of this batch are off",
        hint=_guess(a, b, off),
    )


def _guess(a: np.ndarray, b: np.ndarray, off: np.ndarray) -> str:
    """Say what the pattern of differences looks like."""
    if not np.isfinite(a).all():
        return "the export overflows or divides by zero: export in a wider precision"
    if off.ndim and len(off) > 1 and not off[0].any():
        return "only the first sample of the batch is right: the batch size is baked into the graph; export with a dynamic batch axis"
    if a.ndim > 1 and off.mean() > 0.5 and a.size > 2:
        if np.std(a) > 0 and np.std(b) > 0 and np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999:
            return (
                "the values are the original's but for scale or offset or a small error everywhere: an epsilon or an approximation differs"
            )
        return "most values differ: look for another layout, lost weights or dropout left on"
    return "few values differ: look for an operator at a boundary (rounding, padding, ties), or loosen the tolerance if it is harmless"


def _where(place: np.ndarray, done: int) -> str:
    return f"sample {done + int(place[0])}, index {[int(i) for i in place[1:]]}" if len(place) else f"sample {done}"


def _wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)
