"""Weights on a 4-bit grid: integers -8..7 (or 0..15 with a zero point) times a scale that a group of neighbours shares.

A scale has no more digits than fp16 holds. So scale times integer is exact in float32, weights that lie on such a grid already are
found again bit for bit, and every format stores the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LARGEST_SCALE = 65504.0
"""What fp16 holds."""
_SYMMETRIC = (8.0, 7.0, 7.5, 8.5, 9.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
"""Steps from zero to the largest magnitude; below 7 only weights that are on a grid already are served best."""
_SHRUNK = (1.0, 0.96, 0.92, 0.88, 0.84)
"""Parts of a range with zero in it that 15 steps may span; what is beyond is clipped."""


@dataclass(frozen=True)
class Grid:
    """A matrix [C, K] as ``(integers - zero_points) * scales``.

    Attributes:
        integers: -8..7, or 0..15 where there are zero points; int8 [C, K].
        scales: float32 [C, G], positive, exact in fp16.
        zero_points: 0..15, int8 [C, G]; None for a symmetric grid.
        group: weights that share a scale; the last group of a channel may be shorter.
    """

    integers: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray | None
    group: int

    def weights(self) -> np.ndarray:
        """Return the matrix in float32."""
        offsets = 0 if self.zero_points is None else self.spread(self.zero_points).astype(np.float32)
        return np.asarray((self.integers.astype(np.float32) - offsets) * self.spread(self.scales), np.float32)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Repeat what is said of each group [C, G] for each of its weights [C, K]."""
        return np.repeat(values, self.group, axis=1)[:, : self.integers.shape[1]]

    def regrouped(self, group: int) -> Grid:
        """Say the same with smaller groups, each with the scale of the one it came from."""
        starts = np.arange(0, self.integers.shape[1], group) // self.group
        points = None if self.zero_points is None else self.zero_points[:, starts]
        return Grid(self.integers, self.scales[:, starts], points, group)


def to_grid(
    weights: np.ndarray, group: int | None = None, *, symmetric: bool = True, shared: bool = False, importance: np.ndarray | None = None
) -> Grid:
    """Round weights to the nearest points of the grid with the least squared error.

    References: Nagel et al. 2021 (arXiv:2106.08295), section 3.1, for ranges by squared error; Frantar et al. 2022 (arXiv:2210.17323)
    for groups.

    Args:
        weights: matrix [C, K] of C output channels.
        group: neighbours in a channel that share a scale; None for the whole channel.
        symmetric: whether zero is the middle of the grid; else each group has a zero point.
        shared: one scale for the whole matrix; ``group`` and ``importance`` then do not matter.
        importance: what a squared error counts in each column [K], such as the power of the activations there; all alike by default.
    """
    matrix = np.asarray(weights, np.float32)
    channels, length = matrix.shape
    size = length if group is None or shared else min(group, length)
    if shared:
        grid = to_grid(matrix.reshape(1, -1), symmetric=symmetric)
        points = None if grid.zero_points is None else np.repeat(grid.zero_points, channels, axis=0)
        return Grid(grid.integers.reshape(channels, length), np.repeat(grid.scales, channels, axis=0), points, length)
    groups = -(-length // size)
    short = groups * size - length
    padded = np.concatenate([matrix, np.repeat(matrix[:, -1:], short, axis=1)], axis=1).reshape(-1, size)
    counts = np.ones(length) if importance is None else importance
    best = _Best(padded, np.tile(np.append(counts, np.zeros(short)).reshape(groups, size), (channels, 1)))
    integers, scales, points = _symmetric(padded, best) if symmetric else _asymmetric(padded, best)
    zero_points = None if points is None else points.reshape(channels, groups).astype(np.int8)
    kept = integers.reshape(channels, -1)[:, :length].astype(np.int8)
    return Grid(kept, scales.reshape(channels, groups), zero_points, size)


def fits(weights: np.ndarray) -> bool:
    """Whether fp16 holds the scales of a matrix."""
    return bool(np.isfinite(weights).all() and np.abs(weights).max(initial=0) <= LARGEST_SCALE)


def pack(integers: np.ndarray) -> np.ndarray:
    """Put two integers into a byte, the first into the lower half, along the last axis; uint8 [..., ceil(K / 2)]."""
    nibbles = integers.astype(np.uint8) & 0xF
    if nibbles.shape[-1] % 2:
        nibbles = np.concatenate([nibbles, np.zeros_like(nibbles[..., :1])], axis=-1)
    return np.asarray(nibbles[..., 0::2] | (nibbles[..., 1::2] << 4))


def unpack(packed: np.ndarray, length: int, *, signed: bool) -> np.ndarray:
    """Take the integers out of bytes again; int8 [..., length]."""
    nibbles = np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)[..., :length].astype(np.int8)
    return np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8) if signed else nibbles


def _symmetric(rows: np.ndarray, best: _Best) -> tuple[np.ndarray, np.ndarray, None]:
    largest = np.abs(rows).max(axis=1, keepdims=True)
    for steps in _SYMMETRIC:
        scales = rounded(largest / np.float32(steps))
        best.offer(np.clip(np.rint(rows / scales), -8, 7), np.zeros_like(scales), scales)
    return best.integers, best.scales, None


def _asymmetric(rows: np.ndarray, best: _Best) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    start, span = np.minimum(low, 0), np.maximum(high, 0) - np.minimum(low, 0)
    spans = [(start * part, span * part / np.float32(15)) for part in _SHRUNK]
    spans += [(first, length / np.float32(steps)) for first, length in ((low, high - low), (start, span)) for steps in range(1, 16)]
    for first, step in spans:
        scales = rounded(step)
        points = np.clip(np.rint(-first / scales), 0, 15)
        best.offer(np.clip(np.rint(rows / scales) + points, 0, 15), points, scales)
    return best.integers, best.scales, best.points


def rounded(scales: np.ndarray) -> np.ndarray:
    """Scales with no more digits than fp16 has, still in float32; one that would vanish becomes 1."""
    short = np.minimum(scales, LARGEST_SCALE).astype(np.float16).astype(np.float32)
    return np.where(short > 0, short, np.float32(1))


class _Best:
    """Keeps each row's grid with the least weighted squared error; the first of equals."""

    def __init__(self, rows: np.ndarray, counts: np.ndarray) -> None:
        self._rows = rows
        self._counts = counts
        self._error = np.full((len(rows), 1), np.inf)
        self.integers = np.zeros_like(rows)
        self.points = np.zeros((len(rows), 1), np.float32)
        self.scales = np.ones((len(rows), 1), np.float32)

    def offer(self, integers: np.ndarray, points: np.ndarray, scales: np.ndarray) -> None:
        error = (((integers - points) * scales - self._rows) ** 2 * self._counts).sum(axis=1, keepdims=True)
        better = error < self._error
        self._error = np.where(better, error, self._error)
        self.integers = np.where(better, integers, self.integers)
        self.points = np.where(better, points, self.points)
        self.scales = np.where(better, scales, self.scales)
