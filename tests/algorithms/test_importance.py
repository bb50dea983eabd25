"""Scores against sums written out by hand, and masks against what they must leave."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms import importance


def test_group_norm_joins_all_layers_of_a_channel() -> None:
    import torch

    first = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[4.0], [0.0]])
    assert importance.group_norm([first, second]).tolist() == [5.0, 1.0]


def test_taylor_is_the_square_of_the_sum_over_weights_and_layers() -> None:
    import torch

    weights = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0], [6.0]])]
    gradients = [torch.tensor([[0.1, -0.2], [0.3, 0.4]]), torch.tensor([[1.0], [-0.5]])]
    expected = [(0.1 - 0.4 + 5.0) ** 2, (0.9 + 1.6 - 3.0) ** 2]
    np.testing.assert_allclose(importance.taylor(weights, gradients), expected, rtol=1e-6)


def test_taylor_is_the_first_order_change_of_a_real_loss() -> None:
    import torch

    torch.manual_seed(0)
    x, weight = torch.randn(16, 5), torch.randn(5, 3, requires_grad=True)
    loss = lambda w: (torch.tanh(x @ w) ** 2).mean()  # noqa: E731
    loss(weight).backward()
    scores = importance.taylor([weight.detach()], [weight.grad])
    step = 1e-3
    for channel in range(5):
        nearly = weight.detach().clone()
        nearly[channel] *= 1 - step
        slope = float(loss(nearly) - loss(weight.detach())) / step
        assert slope**2 == pytest.approx(float(scores[channel]), rel=0.05)


def test_batch_norm_scale_is_the_mean_size_of_the_factors() -> None:
    import torch

    assert importance.batch_norm_scale([torch.tensor([-2.0, 1.0]), torch.tensor([4.0, 0.0])]).tolist() == [3.0, 0.5]


def test_contribution_is_the_power_that_reaches_the_next_layer() -> None:
    import torch

    rng = torch.Generator().manual_seed(0)
    weight, scale = torch.randn(4, 3, generator=rng), torch.tensor([1.0, 0.1, 3.0])
    x = torch.randn(200_000, 3, generator=rng) * scale
    found = importance.contribution([weight.T[:, None]], [x.square().mean(0)[:, None]])
    for channel in range(3):
        brought = x[:, channel : channel + 1] * weight[:, channel]
        assert float(found[channel]) == pytest.approx(float(brought.square().sum(1).mean().sqrt()), rel=1e-4)


def test_wanda_is_weight_times_input_norm() -> None:
    import torch

    weight, norms = torch.tensor([[-1.0, 2.0], [3.0, -4.0]]), torch.tensor([10.0, 0.5])
    assert importance.wanda(weight, norms).tolist() == [[10.0, 1.0], [30.0, 2.0]]


def test_smallest_out_counts_over_the_whole_tensor() -> None:
    import torch

    mask = importance.smallest_out(torch.tensor([[5.0, 1.0], [2.0, 9.0]]), 0.5)
    assert mask.tolist() == [[True, False], [False, True]]


def test_smallest_out_of_rows_counts_in_each_row() -> None:
    import torch

    mask = importance.smallest_out_of_rows(torch.tensor([[5.0, 6.0, 7.0, 8.0], [1.0, 4.0, 3.0, 2.0]]), 0.5)
    assert mask.tolist() == [[False, False, True, True], [False, True, True, False]]


def test_equal_scores_still_give_the_exact_share() -> None:
    import torch

    assert int(importance.smallest_out(torch.ones(10, 10), 0.3).sum()) == 70
    assert importance.n_of_m(torch.ones(2, 8), 2, 4).sum(1).tolist() == [4, 4]


def test_two_of_four_keeps_the_two_largest_of_each_four() -> None:
    import torch

    mask = importance.n_of_m(torch.tensor([[1.0, 4.0, 3.0, 2.0, 9.0, 0.0, 8.0, 7.0]]), 2, 4)
    assert mask.tolist() == [[False, True, True, False, True, False, True, False]]


def test_rows_that_do_not_divide_are_refused() -> None:
    import torch

    with pytest.raises(ValueError, match="6 inputs"):
        importance.n_of_m(torch.ones(1, 6), 2, 4)
