"""Coordinate descent on an int4 grid: one column's integers after another, then the scales, each with everything else held fixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.algorithms.int4 import Grid, rounded


def descend(grid: Grid, wanted: np.ndarray, curvature: np.ndarray, rounds: int) -> Grid:
    """Make the error of a layer's outputs smaller, never larger.

    Reference: Behdin et al. 2023, "QuantEase: Optimization-based Quantization for Language Models" (arXiv:2309.01885).

    Args:
        grid: where to start, [C, K].
        wanted: the float matrix [C, K].
        curvature: ``X^T X`` of the layer's inputs [K, K], up to a factor.
        rounds: times that all columns and scales are gone through.
    """
    state = _State(grid, np.asarray(wanted, np.float64), np.asarray(curvature, np.float64))
    for _ in range(rounds):
        for column in range(wanted.shape[1]):
            state.round_column(column)
        for group in range(grid.scales.shape[1]):
            state.fit_scales(group)
    return state.grid()


class _State:
    """Integers above their zero points, scales, and the gradient of half the squared error of the outputs."""

    def __init__(self, grid: Grid, wanted: np.ndarray, curvature: np.ndarray) -> None:
        self._start = grid
        self._curvature = curvature
        points = np.zeros(grid.scales.shape) if grid.zero_points is None else grid.zero_points.astype(np.float64)
        self._points = grid.spread(points)
        self._scales = grid.scales.astype(np.float64)
        self._integers = grid.integers - self._points
        self._gradient = (grid.weights() - wanted) @ curvature
        self._low, self._high = (-8, 7) if grid.zero_points is None else (0, 15)

    def round_column(self, column: int) -> None:
        """Give a column the integers that are best while all other columns stay as they are."""
        power = self._curvature[column, column]
        if power <= 0:
            return
        scales, points, old = self._scales[:, column // self._start.group], self._points[:, column], self._integers[:, column]
        best = np.rint(old - self._gradient[:, column] / (power * scales))
        new = np.clip(best, self._low - points, self._high - points)
        self._gradient += ((new - old) * scales)[:, None] * self._curvature[column]
        self._integers[:, column] = new

    def fit_scales(self, group: int) -> None:
        """Give a group's rows the scales that are best while all integers stay, where fp16 has one that is better."""
        part = slice(group * self._start.group, (group + 1) * self._start.group)
        integers, old = self._integers[:, part], self._scales[:, group]
        power = ((integers @ self._curvature[part, part]) * integers).sum(axis=1)
        slope = (integers * self._gradient[:, part]).sum(axis=1)
        best = np.where(power > 0, old - slope / np.where(power > 0, power, 1), old)
        new = np.where(best > 0, rounded(best.astype(np.float32)).astype(np.float64), old)
        change = new - old
        change = np.where(change * slope + 0.5 * change**2 * power < 0, change, 0)
        self._gradient += (integers * change[:, None]) @ self._curvature[part]
        self._scales[:, group] = old + change

    def grid(self) -> Grid:
        """Return where the descent has come to."""
        integers = (self._integers + self._points).astype(np.int8)
        return replace(self._start, integers=integers, scales=self._scales.astype(np.float32))
