from __future__ import annotations

import torch
from torch import nn

from edgekit.algorithms.equalization import Pull, balanced, column_ranges, equalized, pull_of, rescale, row_ranges
from edgekit.algorithms.layers import Channels

WEIGHTS = Pull(1.0, 0.0, 1.0)


def spread(ranges: torch.Tensor) -> float:
    return float((ranges.max() / ranges.min()).detach())


def relative(scales: torch.Tensor) -> torch.Tensor:
    return scales / scales.log().mean().exp()


def uneven(*layers: nn.Module) -> nn.Sequential:
    """A network whose output channels have very different ranges."""
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data *= torch.exp(2 * torch.randn(len(layer.weight))).reshape(-1, *[1] * (layer.weight.ndim - 1))
    return nn.Sequential(*layers)


def test_scales_of_a_pair_are_those_of_the_paper() -> None:
    rows, columns = torch.tensor([4.0, 1.0, 0.25]).double(), torch.tensor([1.0, 1.0, 16.0]).double()
    found = balanced(rows, None, columns, WEIGHTS)
    torch.testing.assert_close(found, relative((rows * columns).sqrt() / columns))
    after = (rows / found) / (columns * found)
    torch.testing.assert_close(after, after.mean().expand(3))


def test_a_depthwise_triple_settles_where_the_paper_says() -> None:
    """Three ranges become equal in every channel, so each is the cube root of their product, up to what all channels share."""
    net = uneven(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(), nn.Conv2d(6, 4, 1))
    groups = [Channels(6, ("0",), ("2",)), Channels(6, ("2",), ("4",))]
    r1, r2 = row_ranges(net[0].weight.double()), row_ranges(net[2].weight.double())
    r3 = column_ranges(net[4].weight.double(), 6)
    common = (r1 * r2 * r3) ** (1 / 3)
    first, second = equalized(net, groups, [WEIGHTS, WEIGHTS], {})
    torch.testing.assert_close(first, relative(r1 / common), rtol=1e-3, atol=0)
    torch.testing.assert_close(second, relative(common / r3), rtol=1e-3, atol=0)


def test_activations_alone_become_equal() -> None:
    seen = torch.tensor([75.0, 1.0, 8.0]).double()
    ones = torch.ones(3).double()
    found = balanced(ones, seen, ones, Pull(0.0, 1.0, 0.0))
    assert spread(seen / found) < 1.0001


def test_weights_and_activations_meet_in_the_middle() -> None:
    """The square root that SmoothQuant takes with alpha = 0.5."""
    seen, columns = torch.tensor([16.0, 1.0, 1.0]).double(), torch.tensor([1.0, 4.0, 1.0]).double()
    found = balanced(torch.ones(3).double(), seen, columns, Pull(0.0, 1.0, 1.0))
    torch.testing.assert_close(found, relative((seen / columns).sqrt()))


def test_channels_without_a_range_stay_as_they_are() -> None:
    found = balanced(torch.tensor([1.0, 0.0, 4.0]).double(), None, torch.ones(3).double(), WEIGHTS)
    assert found[1] == 1.0
    assert torch.isfinite(found).all()


def test_outputs_stay_and_ranges_even_out() -> None:
    net = uneven(nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 16, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16, 5))
    groups = [Channels(8, ("0",), ("2",)), Channels(16, ("2",), ("5",))]
    x = torch.randn(4, 3, 8, 8)
    before, ranges = net(x).detach(), row_ranges(net[2].weight)
    for group, scales in zip(groups, equalized(net, groups, [WEIGHTS, WEIGHTS], {}), strict=True):
        rescale(net, group, scales.double())
    torch.testing.assert_close(net(x), before, rtol=1e-5, atol=1e-5 * float(before.abs().max()))
    assert spread(row_ranges(net[2].weight)) < spread(ranges) / 3


def test_with_a_scale_a_channel_only_what_shares_one_counts() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1))
    assert pull_of(net, Channels(4, ("0",), ("1",)), "channel", 1.0) == Pull(0.0, 1.0, 0.0)
    assert pull_of(net, Channels(4, ("1",), ("2",)), "channel", 1.0) == Pull(0.0, 1.0, 1.0)
    assert pull_of(net, Channels(4, ("0",), ("1",)), "tensor", 0.5) == Pull(1.0, 0.5, 1.0)
