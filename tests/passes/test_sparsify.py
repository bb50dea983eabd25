"""Zeros where they belong, and there to stay."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgekit.core.bench import Bench
from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Context, Pass
from edgekit.core.registry import create
from edgekit.passes.sparsify import Sparsify

QUICK = {"epochs": 2, "batch": 50, "learning_rate": 0.01}


def sparsify(**options: Any) -> Sparsify:
    return create(Pass, {"use": "sparsify", "recover": None, "measure": False, **options}, "passes")


def made(work: Sparsify, module: Any, context: Context) -> Any:
    return work.perform(module, work.plan(module, context), context)


def test_the_smallest_weights_of_each_layer_go(student: Any, context: Context) -> None:
    before = {name: value.detach().clone() for name, value in student.named_parameters()}
    better = made(sparsify(share=0.75), student, context)
    for name in ("0.weight", "5.weight"):
        after, was = better.module.get_parameter(name), before[name]
        assert int((after == 0).sum()) == round(was.numel() * 0.75)
        assert float(was[after == 0].abs().max()) <= float(was[after != 0].abs().min())
        assert bool((after[after != 0] == was[after != 0]).all())


def test_two_of_four_neighbours_along_the_inputs_stay(student: Any, context: Context) -> None:
    before = student[5].weight.detach().clone()
    better = made(sparsify(pattern="2:4"), student, context)
    groups = better.module[5].weight.reshape(10, 32, 4)
    assert bool(((groups != 0).sum(2) == 2).all())
    kept = groups.abs().sum(2)
    best = before.reshape(10, 32, 4).abs().topk(2, dim=2).values.sum(2)
    np.testing.assert_allclose(kept.detach(), best, rtol=1e-6)
    assert better.record["layers"] == {"5": 0.5}  # one input channel of 3x3 is nine inputs, no multiple of four


def test_neighbours_of_a_convolution_are_its_input_channels(context: Context) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 1), torch.nn.Conv2d(4, 6, 3)).eval()
    better = made(sparsify(pattern="1:4", protect=["0"]), module, context)
    assert bool(((better.module[1].weight != 0).sum(1) == 1).all())


def test_wanda_is_weight_times_norm_of_the_input_row_by_row(context: Context) -> None:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    weight = module[1].weight.detach().clone()
    x = np.concatenate([inputs["input"] for inputs, _ in context.training.batches(64, limit=256)]).reshape(-1, 64)
    scores = np.abs(weight.numpy()) * np.linalg.norm(x, axis=0)
    better = made(sparsify(share=0.5, importance="wanda"), module, context)
    for row in range(10):
        gone = set(np.flatnonzero(better.module[1].weight[row].detach().numpy() == 0).tolist())
        assert gone == set(np.argsort(scores[row], kind="stable")[:32].tolist())


def test_wanda_reads_convolutions_by_channel(context: Context) -> None:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 1), torch.nn.Conv2d(4, 6, 3, bias=False)).eval()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([1e-6, 1.0, 1.0, 1e-6]).view(4, 1, 1, 1))
        module[0].bias.zero_()
        module[1].weight.fill_(1.0)
    better = made(sparsify(share=0.5, importance="wanda", protect=["0"]), module, context)
    assert better.module[1].weight[:, [0, 3]].abs().max() == 0
    assert better.module[1].weight[:, [1, 2]].min() == 1


def test_zeros_stay_through_recovery_and_accuracy_comes_back(student: Any, context: Context, accuracy: Callable[[Any], float]) -> None:
    from edgekit.passes._engine import Training, train
    from edgekit.passes._objectives import from_labels

    train(student, from_labels(context.task), Training(epochs=6, batch=50, learning_rate=0.01), replace(context, scratch=None))
    before = accuracy(student)
    hurt = accuracy(made(sparsify(share=0.7), copy.deepcopy(student), context).module)
    better = made(sparsify(share=0.7, recover={**QUICK, "epochs": 6}, teacher=None), student, context)
    assert hurt < accuracy(better.module)
    assert accuracy(better.module) > before - 0.06
    assert better.record["layers"] == {"0": pytest.approx(0.7, abs=0.01), "5": pytest.approx(0.7, abs=0.01)}


def test_protected_layers_stay_dense(student: Any, context: Context) -> None:
    work = sparsify(share=0.5, protect=["5"])
    plan = work.plan(student, context)
    assert (list(plan["layers"]), plan["dense"]) == (["0"], ["5"])
    assert bool((work.perform(student, plan, context).module[5].weight != 0).all())


def test_a_pattern_that_protects_nothing_is_an_error(student: Any, context: Context) -> None:
    with pytest.raises(RecipeError, match="'conv' matches no layer"):
        sparsify(share=0.5, protect=["conv"]).plan(student, context)


def test_nothing_to_make_sparse_is_an_error(student: Any, context: Context) -> None:
    with pytest.raises(RecipeError, match="multiple of 7 inputs"):
        sparsify(pattern="3:7").plan(student, context)


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, "either a share"), ({"share": 0.5, "pattern": "2:4"}, "either a share"), ({"pattern": "4:2"}, "fewer must stay")],
)
def test_options_that_say_nothing_or_too_much_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        sparsify(**options)


@pytest.mark.parametrize(("sparse_ms", "said"), [(1.0, "gains nothing from"), (0.5, "gains from")])
def test_the_note_says_what_the_runtime_gains(student: Any, context: Context, sparse_ms: float, said: str) -> None:
    class Pretended(Bench):
        circumstances = {"runtime": "pretended"}

        def race(self, modules: Sequence[Any], example: Any) -> list[float]:
            assert [bool((m[5].weight == 0).any()) for m in modules] == [False, True]
            return [1.0, sparse_ms]

    better = made(sparsify(share=0.5, measure=True), student, replace(context, bench=Pretended()))
    assert f"pretended {said} the zeros" in better.notes[1]
    assert better.record["latency"] == {"runtime": "pretended", "dense_ms": 1.0, "sparse_ms": sparse_ms}


def test_what_was_not_measured_is_not_claimed(student: Any, context: Context) -> None:
    assert "was not measured" in made(sparsify(share=0.5), student, context).notes[1]


@pytest.mark.parametrize("importance", ["magnitude", "wanda"])
def test_computed_weights_stay_dense_and_layers_that_never_run_have_no_say(context: Context, importance: str) -> None:
    import torch

    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(64, 16))
            self.plain, self.idle = torch.nn.Linear(16, 10), torch.nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.plain(self.normed(x.flatten(1)).relu())  # type: ignore[no-any-return]

    better = made(sparsify(share=0.5, importance=importance), Odd().eval(), context)
    assert int((better.module.plain.weight == 0).sum()) == 80
    assert better.record["layers"]["plain"] == 0.5
    assert "normed" not in better.record["layers"]
    assert bool((better.module.normed.weight != 0).all())
