"""Weights rounded up or down so that a layer's outputs change least, found by gradient descent on a soft rounding variable.

A layer's outputs are linear in its weights, so its mean squared error on all calibration samples is a quadratic form of the weights,
given by second moments of what it reads. Those are collected once, in memory that grows with the layer and not with the samples, and
every step of the descent sees all samples.

Reference: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv:2004.10568).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.algorithms.grids import WeightGrid

if TYPE_CHECKING:
    import torch

ZETA, GAMMA = 1.1, -0.1
"""Stretch of the sigmoid, so that it reaches 0 and 1 (equation 23)."""
WARM_UP = 0.2
SHARPEST, SOFTEST = 2.0, 20.0
"""Exponents of the regularizer, from soft to sharp (equation 24)."""
ON_POINT = 4e-3
"""Share of a step that is taken for nothing: the largest weight must stay where it is, whatever digits a 4-bit scale lacks (7 / 2^11)."""
FLIPS = 4
"""Single changes of an output's roundings, at most so many times its weights."""
NO_GAIN = 1e-12
"""Share of an output's power below which a change of its error is one of digits."""
NARROWEST = 0.4
WIDTHS = 25


@dataclass
class Moments:
    """What a layer reads on the way to its quantized form, against what it should give: means and second moments, collected in batches.

    Attributes:
        count: positions seen.
        mean_x: sums of what each output reads [G, D]: G groups of a convolution, D weights of an output channel.
        mean_y: sums of the wanted outputs [G, P]: P outputs of a group.
        xx: sums of products [G, D, D].
        yx: sums of products [G, P, D].
        yy: sums of squares [G, P].
    """

    count: int
    mean_x: torch.Tensor
    mean_y: torch.Tensor
    xx: torch.Tensor
    yx: torch.Tensor
    yy: torch.Tensor

    @classmethod
    def empty(cls, groups: int, width: int, outputs: int) -> Moments:
        """Start with nothing seen."""
        import torch

        shapes = ((groups, width), (groups, outputs), (groups, width, width), (groups, outputs, width), (groups, outputs))
        return cls(0, *(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take in what was read [G, D, positions] and what was wanted [G, P, positions]."""
        x, y = x.float(), y.float()
        self.count += x.shape[2]
        self.mean_x += x.sum(2, dtype=x.dtype).double()
        self.mean_y += y.sum(2).double()
        self.xx += (x @ x.mT).double()
        self.yx += (y @ x.mT).double()
        self.yy += (y * y).sum(2).double()

    def quadratic(self, *, biased: bool) -> Quadratic:
        """Return the error as a function of the weights; a layer with a bias corrects every mean error by it."""
        xx, yx, yy = self.xx / self.count, self.yx / self.count, self.yy / self.count
        mean_x, mean_y = self.mean_x / self.count, self.mean_y / self.count
        if biased:
            xx = xx - mean_x[:, :, None] * mean_x[:, None, :]
            yx = yx - mean_y[:, :, None] * mean_x[:, None, :]
            yy = yy - mean_y**2
        return Quadratic(xx, yx, yy, mean_x, mean_y)


@dataclass(frozen=True)
class Quadratic:
    """Mean squared error of a layer's outputs as a function of its weights [G, P, D]."""

    xx: torch.Tensor
    yx: torch.Tensor
    yy: torch.Tensor
    mean_x: torch.Tensor
    mean_y: torch.Tensor

    def errors(self, weights: torch.Tensor) -> torch.Tensor:
        """Mean squared error of each output [G, P]."""
        return ((weights @ self.xx - 2 * self.yx) * weights).sum(2) + self.yy

    def bias(self, weights: torch.Tensor) -> torch.Tensor:
        """The bias of each output [G, P] that makes the mean error zero."""
        return self.mean_y - (weights @ self.mean_x[:, :, None])[:, :, 0]


@dataclass(frozen=True)
class Descent:
    """How the rounding is searched.

    Attributes:
        iterations: steps of Adam.
        learning_rate: of the rounding variables.
        regularization: weight of the term that drives them to 0 or 1, against errors relative to those of nearest rounding.
    """

    iterations: int
    learning_rate: float
    regularization: float


def clipped(matrix: torch.Tensor, quadratic: Quadratic, grid: WeightGrid) -> torch.Tensor:
    """Narrow the range of each output's weights [O, D] to the share that costs least; what lies beyond goes to its end."""
    import torch

    blocks = grid.blocks(matrix)
    widest = blocks.abs().amax(1, keepdim=True)
    best, least = matrix, _errors(grid.nearest(matrix), quadratic, grid)
    for share in torch.linspace(1, NARROWEST, WIDTHS).tolist()[1:]:
        narrowed = blocks.clamp(-share * widest, share * widest).reshape(matrix.shape)
        errors = _errors(grid.nearest(narrowed), quadratic, grid)
        best = torch.where((errors < least)[:, None], narrowed, best)
        least = torch.minimum(errors, least)
    return best


def adaptive(matrix: torch.Tensor, quadratic: Quadratic, grid: WeightGrid, descent: Descent) -> torch.Tensor:
    """Round weights [O, D] up or down to the points of their grid so that the outputs' error is least.

    The largest weight of each block stays at its end of the grid, so that whoever reads the result finds the same grid. What the descent
    found, and nearest rounding, are improved by single changes; each output gets the better of the two.
    """
    import torch

    shape = quadratic.yx.shape
    scales = grid.scales(matrix)
    floor, share = _parted(matrix / scales, grid.top)
    movable = (share > 0).float()
    nearest = (floor + (share > 0.5)) * scales
    least = quadratic.errors(nearest.reshape(shape)).reshape(-1)
    xx = quadratic.xx.float()
    slope = (matrix.reshape(shape) @ quadratic.xx - quadratic.yx).float()
    weight = (shape[2] / least.clamp_min(1e-30)).float()[:, None]
    start, steps = (floor * scales - matrix).float(), scales.float()
    variable = _unrectified(share.float()).requires_grad_()
    optimizer = torch.optim.Adam([variable], lr=descent.learning_rate)
    for step in range(descent.iterations):
        up = _rectified(variable) * movable
        moved = start + up * steps
        with torch.no_grad():
            gradient = 2 * weight * (moved.reshape(shape) @ xx + slope).reshape(matrix.shape)
        loss = (gradient * moved).sum()
        done = step / descent.iterations
        if done >= WARM_UP:
            sharpness = SHARPEST + (SOFTEST - SHARPEST) * (1 - (done - WARM_UP) / (1 - WARM_UP))
            loss = loss + descent.regularization * ((1 - (2 * up - 1).abs() ** sharpness) * movable).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        descended = _flipped((_rectified(variable) > 0.5) * movable.double(), floor, matrix, scales, movable, quadratic)
        settled = _flipped((share > 0.5).double(), floor, matrix, scales, movable, quadratic)
        better = quadratic.errors(descended.reshape(shape)) <= quadratic.errors(settled.reshape(shape))
        return torch.where(better.reshape(-1, 1), descended, settled)


def _flipped(
    up: torch.Tensor, floor: torch.Tensor, matrix: torch.Tensor, scales: torch.Tensor, movable: torch.Tensor, quadratic: Quadratic
) -> torch.Tensor:
    """Change single roundings as long as that makes an output's error less, the best of each output at a time; return the weights."""
    import torch

    groups, outputs, width = quadratic.yx.shape
    rows = torch.arange(len(matrix))
    squares = quadratic.xx.diagonal(dim1=1, dim2=2).repeat_interleave(outputs, 0)
    weights = (floor + up) * scales
    gradient = (weights.reshape(groups, outputs, width) @ quadratic.xx - quadratic.yx).reshape(matrix.shape)
    for _ in range(FLIPS * width):
        change = (1 - 2 * up) * scales
        gain = torch.where(movable > 0, (2 * gradient + change * squares) * change, 0.0)
        least, place = gain.min(1)
        helps = least < -NO_GAIN * quadratic.yy.reshape(-1)
        if not helps.any():
            break
        chosen, at = rows[helps], place[helps]
        gradient[chosen] += change[chosen, at][:, None] * quadratic.xx[chosen // outputs, at]
        up[chosen, at] = 1 - up[chosen, at]
    return (floor + up) * scales


def _parted(position: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Part positions on a grid into the point below and the share of a step above it; those on a point, but for digits, have no share."""
    import torch

    position = position.clamp(-top, top)
    whole = position.round()
    on_point = (position - whole).abs() < ON_POINT
    floor = torch.where(on_point, whole, position.floor())
    return floor, torch.where(on_point, torch.zeros_like(position), position - floor)


def _rectified(variable: torch.Tensor) -> torch.Tensor:
    return (variable.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def _unrectified(share: torch.Tensor) -> torch.Tensor:
    return ((share - GAMMA) / (ZETA - share)).log()


def _errors(matrix: torch.Tensor, quadratic: Quadratic, grid: WeightGrid) -> torch.Tensor:
    """Error of each output [O]; that of all of them where they share a scale."""
    errors = quadratic.errors(matrix.reshape(quadratic.yx.shape)).reshape(-1)
    return errors.sum().expand_as(errors) if grid.granularity == "tensor" else errors
