from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.core.datasets import Boxes, Mask
from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Context
from edgekit.core.progress import Silent
from edgekit.data import open_dataset
from edgekit.passes import _engine
from edgekit.passes._augmentation import Augmentation, augmented, check
from edgekit.passes._engine import Training, train
from edgekit.passes._objectives import Lesson, from_labels, from_teacher

Accuracy = Callable[[torch.nn.Module], float]
QUICK = Training(epochs=4, batch=50, learning_rate=1e-2, held_out=0.1)


class Stops(Silent):
    """Ends a training after some steps, as a kill would."""

    def __init__(self, after: int) -> None:
        self._after = after

    def advance(self, done: int, total: int, said: str = "") -> None:
        if done == self._after:
            raise KeyboardInterrupt


def fit(module: torch.nn.Module, context: Context, options: Training = QUICK, **more: Any) -> _engine.History:
    assert context.task is not None
    return train(module, from_labels(context.task), options, context, **more)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns(student: torch.nn.Module, context: Context, accuracy: Accuracy) -> None:
    before = accuracy(student.eval())
    history = fit(student, context)
    assert before < 0.3
    assert accuracy(student) > 0.85
    assert history.before < 30
    assert history.best.held_out > 85
    assert history.steps == 44  # 540 samples are left to train on: 11 batches of 50, four times


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(student: torch.nn.Module, context: Context) -> None:
    start = weights(student)
    made = []
    for seed in (0, 0, 1):
        student.load_state_dict(start)
        fit(student, replace(context, seed=seed, scratch=None))
        made.append(weights(student))
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


@pytest.mark.parametrize("after", [1, 11, 17, 43], ids=lambda n: f"step {n}")
def test_an_interrupted_training_goes_on_and_ends_as_an_undisturbed_one(
    after: int, student: torch.nn.Module, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = weights(student)
    undisturbed = fit(student, replace(context, scratch=None))
    wanted = weights(student)

    monkeypatch.setattr(_engine, "SAVE_SECONDS", 0.0)
    student.load_state_dict(start)
    with pytest.raises(KeyboardInterrupt):
        fit(student, replace(context, progress=Stops(after)))
    student.load_state_dict(start)
    steps: list[int] = []
    resumed = fit(student, context, after_step=lambda: steps.append(1))
    assert len(steps) < 44 or after == 1
    assert resumed == undisturbed
    assert same(weights(student), wanted)


def test_the_best_epoch_is_kept(student: torch.nn.Module, context: Context) -> None:
    history = fit(student, context, QUICK.model_copy(update={"epochs": 6, "learning_rate": 0.3, "clip": None}))
    assert history.best.held_out == max(epoch.held_out for epoch in history.epochs)
    assert context.training is not None
    _, held_out = context.training.parted(QUICK.held_out, context.seed)
    right = sum(
        int((student(torch.from_numpy(inputs["input"])).argmax(1) == torch.tensor(labels)).sum()) for inputs, labels in held_out.batches(20)
    )
    assert right / len(held_out) * 100 == pytest.approx(history.best.held_out)


def test_patience_ends_a_training_that_gains_nothing(student: torch.nn.Module, context: Context) -> None:
    history = fit(student, context, QUICK.model_copy(update={"epochs": 30, "learning_rate": 1e-12, "patience": 2}))
    assert len(history.epochs) < 30


def test_minutes_end_a_training(student: torch.nn.Module, context: Context) -> None:
    history = fit(student, context, QUICK.model_copy(update={"epochs": 10_000, "max_minutes": 0.02}))
    assert 0 < history.steps < 10_000
    assert history.seconds < 30


def test_a_part_of_an_epoch_is_enough(student: torch.nn.Module, context: Context) -> None:
    assert fit(student, context, QUICK.model_copy(update={"epochs": 1.5})).steps == 16


def test_a_loss_that_is_no_number_is_told(student: torch.nn.Module, context: Context) -> None:
    with pytest.raises(RecipeError, match=r"loss of step [0-9]+ is (nan|inf)") as told:
        fit(student, context, QUICK.model_copy(update={"optimizer": "sgd", "learning_rate": 1e30, "clip": None}))
    assert "learning_rate" in told.value.hint


def test_without_a_training_set_nothing_is_trained(student: torch.nn.Module, context: Context) -> None:
    with pytest.raises(RecipeError, match="nothing to train on"):
        fit(student, replace(context, training=None))


def test_frozen_weights_stay(student: torch.nn.Module, context: Context) -> None:
    student[0].requires_grad_(False)
    before = student[0].weight.clone()
    fit(student, context)
    assert torch.equal(student[0].weight, before)


def test_a_teacher_is_followed_without_labels(student: torch.nn.Module, context: Context, digits: Path, accuracy: Accuracy) -> None:
    teacher = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))])
    fit(teacher, replace(context, scratch=None))
    unlabelled = open_dataset(f"{digits}:unlabelled", role="training", base=digits.parent)
    assert context.task is not None
    objective = from_teacher(context.task, teacher.requires_grad_(False), Lesson(labels=0))
    history = train(student, objective, QUICK, replace(context, training=unlabelled))
    assert history.metric == "-loss"
    assert history.before < history.best.held_out < 0
    assert accuracy(student) > 0.7


def test_rate_rises_falls_and_ends_at_zero(student: torch.nn.Module, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: Any, **more: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    fit(student, context, QUICK.model_copy(update={"warmup": 0.25}))
    assert rates.index(max(rates)) == 11
    assert max(rates) == pytest.approx(1e-2)
    assert rates[22] == pytest.approx(1e-2 * 0.5 * (1 + math.cos(math.pi / 3)))
    assert rates[-1] < 1e-4


def test_a_last_batch_of_one_sample_is_left_out(context: Context, digits: Path) -> None:
    short = digits.with_name("short.yaml")
    short.write_text(
        digits.read_text(encoding="utf-8").replace("training: {rows: [0, 600]}", "training: {rows: [0, 57]}"), encoding="utf-8"
    )
    training = open_dataset(str(short), role="training", base=short.parent)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.BatchNorm1d(10))
    history = fit(net, replace(context, training=training), QUICK.model_copy(update={"epochs": 2}))
    assert history.steps == 2  # 6 samples are held out, 51 are left


@pytest.mark.parametrize(
    ("shape", "label", "said"),
    [
        ((1, 3, 8, 8), Mask(np.zeros((8, 8), np.uint8)), "masks"),
        ((1, 3, 8, 8), Boxes(np.zeros((0, 4)), np.zeros(0)), "boxes"),
        ((1, 8, 8, 3), 0, "come last"),
    ],
)
def test_pictures_whose_labels_or_channels_would_go_wrong_are_not_augmented(shape: tuple[int, ...], label: Any, said: str) -> None:
    inputs = {"x": np.zeros(shape, np.float32)}
    with pytest.raises(RecipeError, match=said):
        check(Augmentation(flip=True), inputs, label)
    check(Augmentation(), inputs, label)
    check(Augmentation(crop=1), {"x": np.zeros((1, 3, 8, 8), np.float32)}, 0)


def test_augmentation_moves_and_mirrors_and_keeps_what_is_seen() -> None:
    torch.manual_seed(0)
    picture = torch.arange(1.0, 26).reshape(1, 1, 5, 5).repeat(200, 2, 1, 1)
    changed = augmented({"x": picture}, Augmentation(flip=True, crop=1))["x"]
    assert changed.shape == picture.shape
    padded = torch.nn.functional.pad(picture[0], (1, 1, 1, 1))
    views = [padded[:, r : r + 5, c : c + 5] for r in range(3) for c in range(3)]
    flipped = torch.nn.functional.pad(picture[0].flip(2), (1, 1, 1, 1))
    views += [flipped[:, r : r + 5, c : c + 5] for r in range(3) for c in range(3)]
    which = [next(i for i, view in enumerate(views) if torch.equal(view, one)) for one in changed]
    assert set(which) == set(range(18))
    assert torch.equal(augmented({"x": picture}, Augmentation())["x"], picture)
