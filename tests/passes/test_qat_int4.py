from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.algorithms.int4 import to_grid
from edgekit.core.errors import RecipeError
from edgekit.core.modules import outputs_of
from edgekit.core.plugin import Context, Improvement, Pass
from edgekit.core.registry import create
from edgekit.data import open_dataset
from edgekit.passes._engine import Training, train
from edgekit.passes._objectives import from_labels
from edgekit.passes.qat_int4 import _rounder

QUICK = {"epochs": 8, "batch": 50, "learning_rate": 3e-3, "held_out": 0.1}


class Net(nn.Module):
    """Linear layers of which one's last group is shorter than the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 40), nn.Linear(40, 24), nn.Linear(24, 10)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the data's word
        x = torch.relu(self.first(input.flatten(1)))
        return self.head(torch.relu(self.second(x)))  # type: ignore[no-any-return]


@pytest.fixture
def original(context: Context) -> Net:
    """A network that knows its digits."""
    torch.manual_seed(0)
    net = Net()
    assert context.task is not None
    schooling = Training(epochs=10, batch=50, learning_rate=3e-3)
    train(net, from_labels(context.task), schooling, replace(context, scratch=None))
    return net


@pytest.fixture
def taught(context: Context, original: Net, digits: Path, tmp_path: Path) -> Context:
    """What a pass needs that learns from the original alone."""
    unlabelled = open_dataset(f"{digits}:unlabelled", role="training", base=tmp_path)
    return replace(context, training=unlabelled, teacher=lambda: copied(original))


def copied(net: nn.Module) -> Net:
    twin = Net()
    twin.load_state_dict(net.state_dict())
    return twin


def rounded(net: Net, grid: dict[str, Any]) -> Net:
    twin = copied(net)
    for layer in (twin.first, twin.second, twin.head):
        weights = layer.weight.detach().numpy()
        layer.weight.data.copy_(torch.from_numpy(to_grid(weights, grid["group"], symmetric=grid["symmetric"]).weights()))
    return twin


def improve(net: Net, context: Context, **options: Any) -> tuple[Improvement, Any]:
    work = create(Pass, {"use": "qat_int4", "training": QUICK, **options}, "passes")
    plan = json.loads(json.dumps(work.plan(net, context)))
    return work.perform(copied(net), plan, context), plan


def distance(net: nn.Module, original: nn.Module, context: Context) -> float:
    """Kullback-Leibler divergence of the classes' distributions, over all samples."""
    assert context.training is not None
    inputs = [batch for batch, _ in context.training.batches(100)]
    found, wanted = (
        torch.cat([torch.from_numpy(next(iter(outputs.values()))).log_softmax(1) for _, outputs in outputs_of(module, inputs)])
        for module in (net, original)
    )
    return float(nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True))


GRIDS = [{"group": 16, "symmetric": True}, {"group": 16, "symmetric": False}, {"group": None, "symmetric": True}]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_trained_weights_lie_on_the_grid_and_stay_closer_to_the_original(grid: dict[str, Any], original: Net, taught: Context) -> None:
    better, plan = improve(original, taught, grid=grid)
    assert plan["layers"] == ["first", "second", "head"]
    for name in plan["layers"]:
        weights = better.module.get_submodule(name).weight.detach().numpy()
        stored = to_grid(weights, grid["group"], symmetric=grid["symmetric"])
        np.testing.assert_array_equal(stored.weights(), weights)
    assert set(better.module.state_dict()) == set(original.state_dict())
    assert distance(better.module, original, taught) < 0.5 * distance(rounded(original, grid), original, taught)
    assert "3 layers on int4 grids" in better.notes[1]


def test_it_takes_up_the_grid_that_an_earlier_pass_chose(original: Net, taught: Context) -> None:
    coarse = rounded(original, GRIDS[0])
    with torch.no_grad():
        coarse.second.weight.copy_((coarse.second.weight * 8).round() / 8)  # a grid that rounding the original would not find
    still, _ = improve(coarse, taught, grid=GRIDS[0], training={**QUICK, "epochs": 0.2, "learning_rate": 1e-12})
    for name in ("first.weight", "second.weight", "head.weight"):
        np.testing.assert_array_equal(still.module.get_parameter(name).detach(), coarse.get_parameter(name).detach())


def test_excluded_layers_are_trained_in_float(original: Net, taught: Context) -> None:
    better, plan = improve(original, taught, grid=GRIDS[0], exclude=["head"])
    assert plan["layers"] == ["first", "second"]
    head = better.module.head.weight.detach().numpy()  # type: ignore[union-attr,operator]
    assert not np.array_equal(to_grid(head, 16).weights(), head)
    with pytest.raises(RecipeError, match="'heads' matches no layer"):
        improve(original, taught, exclude=["heads"])


def test_it_learns_from_labels_where_there_is_no_teacher(original: Net, context: Context) -> None:
    better, _ = improve(original, context, grid=GRIDS[0], teacher=None)
    assert context.task is not None
    assert better.record["metric"] == "top1"
    assert max(epoch["held_out"] for epoch in better.record["epochs"]) >= better.record["before"]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_what_is_computed_while_training_is_what_will_be_stored(grid: dict[str, Any], original: Net) -> None:
    weights = original.second.weight.detach()
    rounder = _rounder()(to_grid(weights.numpy(), grid["group"], symmetric=grid["symmetric"]))
    moved, growth = rounder.right_inverse(weights + 0.01)
    found = rounder(moved, growth + torch.linspace(-0.1, 0.1, growth.numel()).reshape(growth.shape)).detach().numpy()
    stored = to_grid(found, grid["group"], symmetric=grid["symmetric"]).weights()
    np.testing.assert_allclose(stored, found, rtol=1e-6, atol=1e-9)
