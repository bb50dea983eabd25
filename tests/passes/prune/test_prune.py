"""The pass as a whole: aims, protection, recovery, and the way back from the plan."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgekit.core.bench import Bench
from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Context, Pass
from edgekit.core.registry import create
from edgekit.passes.prune import Prune
from edgekit.passes.prune.decision import Aim
from edgekit.passes.prune.groups import find_groups
from tests.passes.prune.networks import Residual, seeded

QUICK = {"epochs": 2, "batch": 50, "learning_rate": 0.01}


def prune(**options: Any) -> Prune:
    options = {"recover": None, **options}
    return create(Pass, {"use": "prune", **options, "how": {"round_to": 2, "samples": 64, **options.get("how", {})}}, "passes")


def macs(module: Any, context: Context) -> float:
    """Multiplications of convolutions and linear layers, counted from shapes seen on the way."""
    import torch

    total = 0.0

    def count(layer: Any, _: Any, result: Any) -> None:
        nonlocal total
        if isinstance(layer, torch.nn.Conv2d):
            total += result[0].numel() * layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        if isinstance(layer, torch.nn.Linear):
            total += layer.weight.numel()

    hooks = [part.register_forward_hook(count) for part in module.modules()]
    module(torch.from_numpy(context.example["input"]))
    for hook in hooks:
        hook.remove()
    return total


class Counter(Bench):
    """Pretends that a multiplication takes a nanosecond and everything else a tenth of a millisecond."""

    circumstances = {"runtime": "pretended"}

    def __init__(self, context: Context, *, lies: float = 0.0) -> None:
        self.context, self.lies, self.races = context, lies, 0

    def race(self, modules: Sequence[Any], example: Any) -> list[float]:
        self.races += 1
        times = [0.1 + macs(module, self.context) * 1e-6 for module in modules]
        return times if len(modules) > 3 else [*times[:-1], times[-1] + self.lies]


@pytest.mark.parametrize("importance", ["magnitude", "taylor", "activation"])
@pytest.mark.parametrize("scope", ["global", "uniform"])
def test_half_the_multiplications_are_half_the_multiplications(importance: str, scope: str, context: Context) -> None:
    module = seeded(Residual)
    plan = prune(macs=0.6, how={"importance": importance, "scope": scope, "round_to": 1}).plan(module, context)
    before = macs(module, context)
    after = macs(Prune.rebuild(copy.deepcopy(module), plan), context)
    assert 0.5 < after / before <= 0.6
    assert plan["decisions"][0]["costs"]["macs"] == {"before": before, "after": after}


def test_a_layer_that_runs_twice_costs_twice(context: Context) -> None:
    import torch

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.middle, self.last = torch.nn.Conv2d(1, 8, 3), torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3)
            self.head = torch.nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.middle(torch.relu(self.middle(torch.relu(self.stem(x))))))
            return self.head(torch.relu(self.last(x)).mean((2, 3)))

    module = Twice().eval()
    plan = prune(macs=0.9, how={"importance": "magnitude"}).plan(module, context)
    assert plan["decisions"][0]["costs"]["macs"]["before"] == macs(module, context)


@pytest.mark.parametrize("norm", ["BatchNorm2d", "InstanceNorm2d", "LayerNorm"])
def test_norms_without_weights_follow(norm: str, context: Context) -> None:
    from torch import nn

    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    between = {"BatchNorm2d": nn.BatchNorm2d(8, affine=False), "InstanceNorm2d": nn.InstanceNorm2d(8)}
    if norm in between:
        module = nn.Sequential(layers[0], between[norm], *layers[1:], nn.Linear(8, 10)).eval()
    else:
        module = nn.Sequential(*layers, nn.Linear(8, 16), nn.LayerNorm(16, elementwise_affine=False), nn.Linear(16, 10)).eval()
    before = macs(module, context)
    work = prune(macs=0.7, how={"importance": "magnitude"})
    assert macs(work.perform(module, work.plan(module, context), context).module, context) <= 0.7 * before


def test_channels_that_attention_reads_stay() -> None:
    import torch

    class Attends(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.attention = torch.nn.Linear(8, 16), torch.nn.MultiheadAttention(16, 2, batch_first=True)
            self.inner, self.head = torch.nn.Linear(16, 16), torch.nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.stem(x))
            return self.head(torch.relu(self.inner(self.attention(x, x, x, need_weights=False)[0])))

    groups, refused = find_groups(Attends().eval(), {"x": np.zeros((1, 5, 8), np.float32)})
    assert [group.name for group in groups] == ["inner"]
    assert "can't lose channels" in refused["stem"]


def test_parameters_are_an_aim_too(context: Context) -> None:
    module = seeded(Residual)
    plan = prune(parameters=0.5, how={"round_to": 1}).plan(module, context)
    small = Prune.rebuild(copy.deepcopy(module), plan)
    shares = sum(p.numel() for p in small.parameters()) / sum(p.numel() for p in module.parameters())
    assert 0.4 < shares <= 0.5


def test_batch_norm_scale_judges_only_what_has_one(context: Context) -> None:
    from tests.passes.prune.networks import Separable

    class Without(Separable):
        def __init__(self) -> None:
            super().__init__()
            self.norm = __import__("torch").nn.Identity()

    with pytest.raises(RecipeError, match="it has no batch norm to judge it by"):
        prune(macs=0.9, how={"importance": "batch_norm"}).plan(seeded(Without), context)
    plan = prune(macs=0.7, how={"importance": "batch_norm"}).plan(seeded(Separable), context)
    scales = seeded(Separable).norm.weight.abs().tolist()
    gone = plan["decisions"][0]["cut"]["channels"]["norm"]["out"]
    assert sorted(gone) == sorted(np.argsort(scales)[: len(gone)].tolist())


def test_what_is_left_is_a_multiple_of_the_width(context: Context) -> None:
    plan = prune(macs=0.6, how={"round_to": 4}).plan(seeded(Residual), context)
    kept = [told["kept"] for told in plan["decisions"][0]["kept"].values()]
    assert all(width % 4 == 0 for width in kept)
    assert any(told["kept"] < told["of"] for told in plan["decisions"][0]["kept"].values())


def test_protected_layers_stay(context: Context) -> None:
    plan = prune(macs=0.8, how={"protect": ["layer1*", "layer2.1.conv1"], "round_to": 1}).plan(seeded(Residual), context)
    assert not any(name.startswith(("layer1", "layer2.1")) for name in plan["decisions"][0]["cut"]["channels"])
    assert plan["decisions"][0]["cut"]["bypassed"] == []
    assert plan["decisions"][0]["left_alone"]["layer1.0.conv1"] == "protected"


def test_a_pattern_that_protects_nothing_names_the_nearest(context: Context) -> None:
    with pytest.raises(RecipeError, match=r"'layer1\.0\.convv1' matches no layer") as problem:
        prune(macs=0.5, how={"protect": ["layer1.0.convv1"]}).plan(seeded(Residual), context)
    assert problem.value.hint == "did you mean 'layer1.0.conv1'?"


def test_taylor_without_labels_says_what_to_do(context: Context, digits: Any) -> None:
    from edgekit.data import open_dataset

    unlabelled = open_dataset(f"{digits}:unlabelled", role="training", base=digits.parent)
    with pytest.raises(RecipeError, match="needs labels") as problem:
        prune(macs=0.5).plan(seeded(Residual), replace(context, training=unlabelled))
    assert "activation" in problem.value.hint


@pytest.mark.parametrize("aims", [{}, {"macs": 0.5, "speedup": 2.0}])
def test_one_aim_and_only_one(aims: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="give one aim"):
        prune(**aims)


def test_several_steps_need_recovery() -> None:
    with pytest.raises(RecipeError, match="several steps need 'recover'"):
        prune(macs=0.5, steps=3)


def test_recovery_makes_up_for_pruning(context: Context, accuracy: Callable[[Any], float]) -> None:
    from edgekit.passes._engine import Training, train
    from edgekit.passes._objectives import from_labels

    module = seeded(Residual)
    train(module, from_labels(context.task), Training(epochs=8, batch=50, learning_rate=0.01), replace(context, scratch=None))
    teacher = copy.deepcopy(module)
    work = prune(macs=0.5, steps=2, recover={**QUICK, "epochs": 4}, how={"round_to": 1})
    taught = replace(context, teacher=lambda: copy.deepcopy(teacher))
    plan = work.plan(module, taught)
    hurt = accuracy(Prune.rebuild(copy.deepcopy(teacher), plan))
    better = work.perform(copy.deepcopy(module), plan, taught)
    assert len(better.plan["decisions"]) == 2
    assert macs(better.module, context) <= 0.5 * macs(teacher, context)
    assert accuracy(better.module) > accuracy(teacher) - 0.05
    assert hurt < accuracy(better.module)
    assert [len(r["epochs"]) for r in better.record["recoveries"]] == [4, 4]


def test_steps_go_evenly_to_the_aim() -> None:
    assert [Aim("macs", 0.4).part(step, 3).value for step in (1, 2, 3)] == pytest.approx([0.8, 0.6, 0.4])
    assert [Aim("speedup", 2.0).part(step, 2).value for step in (1, 2)] == pytest.approx([4 / 3, 2.0])


def test_a_plan_survives_json_and_rebuilds_what_was_performed(context: Context) -> None:
    import torch

    module = seeded(Residual)
    work = prune(macs=0.45, how={"round_to": 1, "keep_at_least": 0.6})
    plan = json.loads(json.dumps(work.plan(module, context)))
    better = work.perform(copy.deepcopy(module), plan, context)
    again = Prune.rebuild(seeded(Residual), plan)
    again.load_state_dict(better.module.state_dict())
    assert plan["decisions"][0]["cut"]["bypassed"]
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(again(x), better.module(x))


def test_latency_is_measured_predicted_and_reached(context: Context) -> None:
    module = seeded(Residual)
    work = prune(speedup=1.5, how={"round_to": 2})
    assert work.times
    plan = work.plan(module, replace(context, bench=Counter(context)))
    told = plan["decisions"][0]["latency"]
    last = told["chosen"]
    assert last["whole_ms"] / last["measured_ms"] >= 1.5 * 0.98
    assert last["predicted_ms"] == pytest.approx(last["measured_ms"], rel=0.02)
    assert told["table"]["whole_ms"] == pytest.approx(0.1 + macs(module, context) * 1e-6)
    note = work.perform(module, plan, context).notes[0]
    assert "1.5x wanted" in note
    assert "in pretended" in note


def test_a_table_that_promises_too_much_is_made_up_for(context: Context) -> None:
    module = seeded(Residual)
    told = prune(speedup=1.3).plan(module, replace(context, bench=Counter(context, lies=0.05)))["decisions"][0]["latency"]
    attempts = told["attempts"]
    assert len(attempts) > 1
    assert attempts[0]["measured_ms"] > attempts[0]["predicted_ms"]
    assert told["chosen"]["measured_ms"] < attempts[0]["measured_ms"]


def test_a_table_that_promises_too_little_is_taken_less_from(context: Context) -> None:
    told = prune(speedup=1.3, how={"round_to": 1}).plan(seeded(Residual), replace(context, bench=Counter(context, lies=-0.06)))
    latency = told["decisions"][0]["latency"]
    assert latency["attempts"][0]["measured_ms"] < latency["chosen"]["measured_ms"]
    assert latency["chosen"]["whole_ms"] / latency["chosen"]["measured_ms"] >= 1.3 * 0.98


def test_a_speedup_without_a_bench_is_refused(context: Context) -> None:
    with pytest.raises(RecipeError, match="can't be measured") as problem:
        prune(speedup=1.5).plan(seeded(Residual), context)
    assert "macs" in problem.value.hint


def test_what_a_killed_run_decided_stands(context: Context) -> None:
    work = prune(speedup=1.5, steps=2, recover=QUICK, teacher=None)
    bench = Counter(context)
    context = replace(context, bench=bench)
    plan = work.plan(seeded(Residual), context)
    first = work.perform(seeded(Residual), plan, context)
    races = bench.races
    again = work.perform(seeded(Residual), plan, context)
    assert bench.races == races
    assert again.plan == first.plan
    assert all(bool((a == b).all()) for a, b in zip(first.module.state_dict().values(), again.module.state_dict().values(), strict=True))
