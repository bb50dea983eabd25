from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Context, Task
from edgekit.core.progress import Silent
from edgekit.core.registry import create
from edgekit.passes import _engine
from edgekit.passes._engine import Training, predictions
from edgekit.passes._inside import DeepLesson, Point, difference, find_points, from_inside, projections, watched
from edgekit.passes.distil import Distil
from edgekit.passes.finetune import Finetune

QUICK = Training(epochs=2, batch=50, learning_rate=1e-2, held_out=0.1)
TOKENS = torch.arange(3, 17).reshape(2, 7)
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
SENTENCES = {"input_ids": TOKENS.numpy(), "attention_mask": MASK.numpy()}


class Listener(Silent):
    """Keeps what it is told, and ends a training after some steps, as a kill would."""

    def __init__(self, after: int = 0) -> None:
        self._after = after
        self.notes: list[str] = []

    def advance(self, done: int, total: int, said: str = "") -> None:
        if done == self._after:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def network(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    stage = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, stride=2), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(stage, nn.Flatten(), nn.Dropout(0.1), nn.Linear(16 * width, 10)).eval()


def bert(layers: int, width: int = 16, seed: int = 0) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    size = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=3, **size)).eval()


def hooks(module: nn.Module) -> int:
    return sum(len(inner._forward_hooks) + len(inner._forward_pre_hooks) for inner in module.modules())


def loss_of(
    student: nn.Module, teacher: nn.Module, lesson: DeepLesson, inputs: dict[str, torch.Tensor], labels: Sequence[int]
) -> tuple[torch.Tensor, list[Point], nn.ModuleList]:
    points = find_points(student, teacher, lesson, {name: value.numpy() for name, value in inputs.items()})
    maps = projections(points, seed=0)
    task = create(Task, "text_classification" if "input_ids" in inputs else "image_classification", "task")
    return from_inside(task, teacher, lesson, points, maps)(student, inputs, labels), points, maps


def relative(own: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return ((own - wanted) ** 2).sum() / (wanted**2).sum()


def test_hidden_states_weigh_what_a_hand_computation_says() -> None:
    student, teacher = bert(2, width=8, seed=1), bert(4)
    inputs = {"input_ids": TOKENS, "attention_mask": MASK}
    with torch.no_grad():
        loss, points, maps = loss_of(student, teacher, DeepLesson(labels=0.3, temperature=2, hidden=0.5), inputs, [0, 2])
        own, wanted = student(**inputs, output_hidden_states=True), teacher(**inputs, output_hidden_states=True)
        projected = [project(state) for project, state in zip(maps, own.hidden_states, strict=True)]
        seen = MASK[:, :, None].bool().expand(-1, -1, 16)
        by_layer = [relative(p[seen], wanted.hidden_states[t][seen]) for p, t in zip(projected, (0, 2, 4), strict=True)]
        soft = nn.functional.kl_div((own.logits / 2).log_softmax(1), (wanted.logits / 2).softmax(1), reduction="batchmean") * 4
        by_hand = 0.7 * soft + 0.3 * nn.functional.cross_entropy(own.logits, torch.tensor([0, 2]))
        by_hand = by_hand + 0.5 * by_layer[0] + 0.5 * (by_layer[1] + by_layer[2]) / 2
    assert [(point.kind, point.teacher.rpartition(".")[2], point.widths) for point in points] == [
        ("embedding", "0", (8, 16)),
        ("hidden", "1", (8, 16)),
        ("hidden", "3", (8, 16)),
    ]
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-5)


def test_attention_maps_weigh_what_a_hand_computation_says() -> None:
    student, teacher = bert(2, seed=1), bert(4)
    inputs = {"input_ids": TOKENS, "attention_mask": MASK}
    lesson = DeepLesson(labels=0, attention=2, layers=(0, 3))
    for model in (student, teacher):
        model.set_attn_implementation("eager")
    with torch.no_grad():
        loss, points, _ = loss_of(student, teacher, lesson, inputs, [0, 2])
        plain, _, _ = loss_of(student, teacher, DeepLesson(labels=0), inputs, [0, 2])
        own, wanted = student(**inputs, output_attentions=True).attentions, teacher(**inputs, output_attentions=True).attentions
    rows = MASK[:, None, :, None]
    by_hand = sum(relative(own[i] * rows, wanted[j] * rows) for i, j in ((0, 0), (1, 3)))
    assert [point.kind for point in points] == ["attention", "attention"]
    assert float(loss - plain) == pytest.approx(float(by_hand), rel=1e-4)


def test_features_of_stages_follow_through_a_convolution() -> None:
    student, teacher = network(4, 0), network(8, 1)
    pictures = {"input": torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))}
    with torch.no_grad():
        loss, points, maps = loss_of(student, teacher, DeepLesson(labels=0, features={"0": "0"}, features_weight=3), pictures, [1, 2, 3])
        plain, _, _ = loss_of(student, teacher, DeepLesson(labels=0), pictures, [1, 2, 3])
        own, wanted = student[0](pictures["input"]), teacher[0](pictures["input"])
        by_hand = 3 * relative(torch.einsum("nchw,dc->ndhw", own, maps[0].weight[:, :, 0, 0]) + maps[0].bias[None, :, None, None], wanted)
    assert points == [Point(kind="features", student="0", teacher="0", widths=(4, 8), picture=True)]
    assert float(loss - plain) == pytest.approx(float(by_hand), rel=1e-5)


def test_pictures_of_different_sizes_are_averaged_down() -> None:
    large, small = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    pooled = nn.functional.avg_pool2d(large, 2)
    assert torch.allclose(difference(large, small), relative(pooled, small))
    assert torch.allclose(difference(small, large), relative(small, pooled))


def test_gradients_reach_the_projection_and_not_the_teacher(context: Context) -> None:
    student, teacher = network(4, 0), network(8, 1)
    pictures = {"input": torch.randn(3, 1, 8, 8)}
    loss, _, maps = loss_of(student, teacher, DeepLesson(labels=0, features={"0": "0"}), pictures, [1, 2, 3])
    loss.backward()
    assert maps[0].weight.grad is not None
    assert float(maps[0].weight.grad.abs().sum()) > 0
    assert all(value.grad is None for value in teacher.parameters())


def test_hooks_are_gone_even_when_the_model_fails() -> None:
    model = network(4, 0)

    def fails() -> None:
        with watched(model, [("features", "0"), ("embedding", "3")]):
            assert hooks(model) == 2
            predictions(model, {"input": torch.zeros(1, 2, 8, 8)})

    with pytest.raises(RuntimeError):
        fails()
    assert hooks(model) == 0


def test_a_pass_leaves_no_hook_and_no_projection_behind(context: Context) -> None:
    student, keys = network(4, 0), set(network(4, 0).state_dict())
    work = Distil(lesson={"features": {"0": "0"}}, training=QUICK)
    taught = replace(context, teacher=lambda: network(8, 1))
    better = work.perform(student, json.loads(json.dumps(work.plan(student, taught))), taught)
    assert hooks(better.module) == 0
    assert set(better.module.state_dict()) == keys


@pytest.mark.parametrize("after", [5, 14])
def test_interrupted_distillation_ends_with_the_same_weights(after: int, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Distil(lesson={"features": {"0": "0"}}, training=QUICK)
    taught = replace(context, teacher=lambda: network(8, 1))
    plan = work.plan(network(4, 0), taught)
    wanted = work.perform(network(4, 0), plan, replace(taught, scratch=None))

    monkeypatch.setattr(_engine, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        work.perform(network(4, 0), plan, replace(taught, progress=Listener(after)))
    told = Listener()
    found = work.perform(network(4, 0), plan, replace(taught, progress=told))
    assert any("goes on from step" in note for note in told.notes)
    assert found.record == wanted.record
    state = wanted.module.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.module.state_dict().items())


def test_features_are_followed(context: Context, accuracy: Callable[[nn.Module], float]) -> None:
    teacher, longer = network(8, 1), QUICK.model_copy(update={"epochs": 6})
    alone = replace(context, teacher=lambda: teacher, scratch=None)
    Finetune(training=longer).perform(teacher, longer.model_dump(), alone)
    pictures = torch.from_numpy(context.example["input"])

    def distance_after(lesson: dict[str, Any]) -> float:
        student, work = network(8, 0), Distil(lesson=lesson, training=longer)
        work.perform(student, work.plan(student, alone), alone)
        assert accuracy(student) > 0.8
        with torch.no_grad():
            return float(relative(student[0](pictures), teacher[0](pictures)))

    assert distance_after({"labels": 0, "features": {"0": "0"}, "features_weight": 10}) < distance_after({"labels": 0}) / 1.5


@pytest.mark.parametrize(
    ("lesson", "said"),
    [
        ({"features": {"stage": "0"}}, "Sequential has no module 'stage'"),
        ({"features": {"0": "stage"}}, "Sequential has no module 'stage'"),
        ({"features": {"0": "3"}}, "only the width may differ"),
        ({"hidden": 1.0}, "no list of layers"),
        ({"attention": 1.0}, "attention maps are known of Transformers models only"),
    ],
)
def test_what_can_not_be_compared_is_refused(lesson: dict[str, Any], said: str, context: Context) -> None:
    with pytest.raises(RecipeError) as told:
        Distil(lesson=lesson).plan(network(4, 0), replace(context, teacher=lambda: network(8, 1)))
    assert said in f"{told.value.message} {told.value.hint}"


def test_layers_and_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"layers is \[0, 9\]; the student has 2 layers, the teacher's are 0 to 3"):
        find_points(bert(2), bert(4), DeepLesson(hidden=1, layers=(0, 9)), SENTENCES)
    one_head = bert(2)
    for layer in one_head.bert.encoder.layer:
        layer.attention.self.num_attention_heads, layer.attention.self.attention_head_size = 1, 16
        layer.attention.self.scaling = 0.25
    with pytest.raises(RecipeError) as told:
        find_points(one_head, bert(4), DeepLesson(attention=1), SENTENCES)
    assert "as many heads" in told.value.hint


def test_a_model_computes_attention_as_before_when_it_has_learnt() -> None:
    student, teacher = bert(2), bert(4)
    assert student.config._attn_implementation == "sdpa"
    find_points(student, teacher, DeepLesson(attention=1), SENTENCES)
    assert student.config._attn_implementation == teacher.config._attn_implementation == "sdpa"
