from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekit.algorithms.folding import Fold, fold, foldable, restructured
from edgekit.algorithms.layers import Channels, calls, channel_groups


def captured(module: nn.Module, *shape: int) -> torch.export.ExportedProgram:
    return torch.export.export(module.eval(), (torch.randn(2, *(shape or (3, 8, 8))),))


def groups(module: nn.Module, *shape: int) -> list[Channels]:
    return channel_groups(captured(module, *shape), module)


@pytest.mark.parametrize(
    "between",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.LeakyReLU(0.1),
        nn.PReLU(4),
        nn.Sequential(nn.MaxPool2d(2), nn.Dropout()),
        nn.ZeroPad2d(1),
        nn.AdaptiveAvgPool2d(1),
    ],
    ids=str,
)
def test_scales_pass_what_is_positively_homogeneous(between: nn.Module) -> None:
    assert groups(nn.Sequential(nn.Conv2d(3, 4, 1), between, nn.Conv2d(4, 2, 1))) == [Channels(4, ("0",), ("2",))]


@pytest.mark.parametrize(
    "between",
    [nn.ReLU6(), nn.SiLU(), nn.GELU(), nn.Softmax(1), nn.ConstantPad2d(1, 1.0), nn.BatchNorm2d(4), nn.PixelShuffle(2)],
    ids=str,
)
def test_everything_else_holds_them(between: nn.Module) -> None:
    inputs = 1 if isinstance(between, nn.PixelShuffle) else 4
    assert groups(nn.Sequential(nn.Conv2d(3, 4, 1), between, nn.Conv2d(inputs, 2, 1))) == []


def test_a_flattened_picture_is_read_in_blocks() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    assert groups(net) == [Channels(4, ("0",), ("3",))]


def test_a_linear_layer_on_the_columns_of_pictures_holds_them() -> None:
    assert groups(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))) == [Channels(8, ("1",), ("3",))]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        return self.head(x.mean((2, 3), keepdim=True))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.twice(self.twice(self.stem(x))))


class Seen(Residual):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x = torch.relu(self.inner(torch.relu(self.stem(x))))
        return x, self.head(self.outer(x))


def test_a_sum_ties_the_channels_of_its_terms() -> None:
    found = {frozenset((*g.producers, "|", *g.consumers)) for g in groups(Residual())}
    assert found == {frozenset({"stem", "outer", "|", "inner", "head"}), frozenset({"inner", "|", "outer"})}


def test_a_layer_that_is_used_twice_holds_its_channels() -> None:
    module = Shared()
    assert [call.layer for call in calls(captured(module), module)] == ["stem", "head"]
    assert groups(module) == []


def test_a_bias_that_two_layers_share_holds_their_channels() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    net[2].bias = net[0].bias
    assert groups(net) == []


def test_what_the_model_returns_is_held() -> None:
    assert groups(Seen()) == [Channels(4, ("stem",), ("inner",)), Channels(4, ("outer",), ("head",))]


def lively(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    for value in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        value.uniform_(0.5, 2)
    return norm


def test_folding_leaves_the_outputs_and_no_norm() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), lively(nn.BatchNorm2d(4)), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), lively(nn.BatchNorm2d(4))
    )
    x = torch.randn(2, 3, 8, 8)
    before = net.eval()(x)
    pairs = foldable(captured(net), net)
    assert pairs == [Fold("0", "1"), Fold("3", "4")]
    fold(net, pairs)
    torch.testing.assert_close(net(x), before, rtol=1e-5, atol=1e-5)
    assert [type(part).__name__ for part in net] == ["Conv2d", "Identity", "ReLU", "Conv2d", "Identity"]


def test_folded_weights_fit_a_restructured_copy() -> None:
    def build() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))

    net = build().eval()
    pairs = foldable(captured(net), net)
    fold(net, pairs)
    restructured(build(), pairs).load_state_dict(net.state_dict())


@pytest.mark.parametrize("where", ["after a function", "beside another reader"])
def test_a_norm_that_is_not_alone_after_its_layer_stays(where: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.norm(torch.relu(x)) if where == "after a function" else self.norm(x) + x

    module = Net()
    assert foldable(captured(module), module) == []


def test_a_norm_over_another_axis_than_a_linear_layers_channels_stays() -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
    assert foldable(captured(module, 6), module) == [Fold("0", "1")]
    assert foldable(captured(module, 8, 6), module) == []
