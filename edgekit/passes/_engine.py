"""The training loop that every pass shares: Accelerate underneath, so the same recipe runs on a CPU, a GPU, or several of them.

All that is random follows from the seed and the step's number, never from a generator's state; so a run that was killed goes on from
its last checkpoint and ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.core.errors import RecipeError
from edgekit.core.machine import this_machine
from edgekit.core.modules import arguments, named_outputs
from edgekit.core.schema import Schema
from edgekit.passes._augmentation import Augmentation, augmented, check

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context

Tensors = dict[str, "torch.Tensor"]
Objective = Callable[["torch.nn.Module", Tensors, Sequence[Any]], "torch.Tensor"]
"""Runs the module on inputs and returns the loss to make small, given the labels."""

SAVE_SECONDS = 60.0
"""Time between checkpoints inside an epoch."""
TOLD_STEPS = 20
"""Steps over which the told loss is averaged."""


class Training(Schema):
    """How a pass trains.

    References: Loshchilov and Hutter 2019 (arXiv:1711.05101) for AdamW, 2017 (arXiv:1608.03983) for the cosine schedule.
    """

    epochs: float = Field(1.0, gt=0, le=10_000, description="Passes over the training set; a part of one is allowed.")
    max_minutes: float | None = Field(None, gt=0, description="Stop after this time; the learning rate still ends at zero.")
    batch: int = Field(64, ge=1, description="Samples in a step, on all processes together.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd has Nesterov momentum 0.9.")
    learning_rate: float = Field(1e-3, gt=0, description="The highest, after warm-up.")
    weight_decay: float = Field(1e-4, ge=0, description="On weights; biases and norms have none.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    clip: float | None = Field(1.0, gt=0, description="Largest norm of the gradient.")
    held_out: float = Field(
        0.05, gt=0, lt=1, description="Share of the training set that is not trained on and decides which epoch was best."
    )
    patience: int | None = Field(None, ge=1, description="Stop after so many epochs without a better one.")
    augment: Augmentation = Augmentation()


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean loss, and the task's metric (minus the loss where there is none) on the held-out part."""

    epoch: float
    loss: float
    held_out: float


@dataclass(frozen=True)
class History:
    """How a training went.

    Attributes:
        epochs: one entry an epoch.
        metric: what ``held_out`` counts.
        before: the same metric before the first step.
        best: the entry whose weights were kept.
        steps: steps made.
        seconds: time spent training, over all resumptions.
    """

    metric: str
    before: float
    epochs: tuple[Epoch, ...]
    best: Epoch
    steps: int
    seconds: float = field(compare=False)

    def record(self) -> dict[str, Any]:
        """Return it as plain data; times are left out, so that the same training gives the same bytes."""
        return {
            "metric": self.metric,
            "before": self.before,
            "epochs": [vars(epoch) for epoch in self.epochs],
            "best": self.best.epoch,
            "steps": self.steps,
        }

    def note(self) -> str:
        """Return one line for the report."""
        return f"{self.steps} steps; {self.metric} on held-out training samples {self.before:.2f} -> {self.best.held_out:.2f}"


def train(
    module: torch.nn.Module,
    objective: Objective,
    options: Training,
    context: Context,
    *,
    helper: torch.nn.Module | None = None,
    after_step: Callable[[], None] | None = None,
    name: str = "training",
) -> History:
    """Train a module in place; at the end it has the weights of its best epoch and is in evaluation mode.

    Args:
        module: what is trained; only parameters that require a gradient change.
        objective: gives the loss of a batch.
        options: how long and how fast.
        context: training set, task, seed, and the folder for checkpoints.
        helper: further parameters that the objective needs only while training (projections, say).
        after_step: called after each change of the weights (to keep a mask, say).
        name: tells this training's checkpoints from another's in the same pass.

    Raises:
        RecipeError: no training set, pictures that can't be augmented, or the loss is not a number.
        DataError: labels or outputs that don't fit the task.
    """
    return _Run(module, objective, options, context, helper, after_step, name).go()


def predictions(module: torch.nn.Module, inputs: Tensors) -> Tensors:
    """Run a module on named inputs and name its outputs."""
    order = arguments(module, list(inputs))
    result = module(inputs[order[0]]) if len(order) == 1 else module(**{name: inputs[name] for name in order})
    return named_outputs(result)


class _Run:
    """One training: its state, how it is saved, and the loop."""

    def __init__(
        self,
        module: torch.nn.Module,
        objective: Objective,
        options: Training,
        context: Context,
        helper: torch.nn.Module | None,
        after_step: Callable[[], None] | None,
        name: str,
    ) -> None:
        import torch
        from accelerate import Accelerator

        if context.training is None or context.task is None:
            raise RecipeError("there is nothing to train on", hint="add 'training: SET' under 'data'")
        self._module, self._objective, self._options, self._context = module, objective, options, context
        self._after_step = after_step
        self._file = context.scratch / f"{name}.pt" if context.scratch else None
        self._data, self._held_out = context.training.parted(options.held_out, context.seed)
        self._task = context.task
        self._accelerator = Accelerator(mixed_precision="bf16" if has_bf16() else "no")
        self._steps_an_epoch = _steps(len(self._data), options.batch)
        self._total = max(1, round(options.epochs * self._steps_an_epoch))
        learner = _learner(module, helper, objective)
        trained = [p for p in learner.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer: torch.optim.Optimizer
        if options.optimizer == "adamw":
            self._optimizer = torch.optim.AdamW(groups, lr=options.learning_rate)
        else:
            self._optimizer = torch.optim.SGD(groups, lr=options.learning_rate, momentum=0.9, nesterov=True)
        self._learner, self._optimizer = self._accelerator.prepare(learner, self._optimizer)
        inputs, labels = next(self._held_out.batches(1, limit=1))
        check(options.augment, inputs, labels[0])
        self._labelled = self._task.labelled and labels[0] is not None
        self._step = 0
        self._epochs: list[Epoch] = []
        self._before = 0.0
        self._best: dict[str, torch.Tensor] = {}
        self._spent = 0.0
        self._losses: list[float] = []

    def go(self) -> History:
        """Train to the end, from the last checkpoint if there is one."""
        began = saved = time.monotonic()
        if not self._resumed():
            self._before = self._judged()
        spent_before = self._spent
        stop = self._finished()
        while not stop:
            for inputs, labels in self._rest_of_epoch():
                self._advance(inputs, labels)
                self._spent = spent_before + time.monotonic() - began
                if self._out_of_time() or self._step >= self._total:
                    break
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
            self._close_epoch()
            self._save()
            saved = time.monotonic()
            stop = self._finished()
        self._accelerator.unwrap_model(self._learner).load_state_dict(self._best)
        self._accelerator.free_memory()
        self._module.to("cpu").eval()
        best = max(self._epochs, key=lambda epoch: epoch.held_out)
        return History(self._metric, self._before, tuple(self._epochs), best, self._step, self._spent)

    @property
    def _metric(self) -> str:
        return self._task.primary if self._labelled else "-loss"

    def _rest_of_epoch(self) -> Iterator[tuple[Tensors, Sequence[Any]]]:
        """Batches that the current epoch still has, without a last one of a single sample; this process's share of each."""
        import torch

        epoch, done = divmod(self._step, self._steps_an_epoch)
        rank, processes = self._accelerator.process_index, self._accelerator.num_processes
        batches = self._data.shuffled(self._options.batch, seed=_mixed(self._context.seed, epoch))
        for inputs, labels in islice(batches, done, self._steps_an_epoch):
            share = {name: torch.from_numpy(array[rank::processes]) for name, array in inputs.items()}
            yield {name: value.to(self._accelerator.device) for name, value in share.items()}, labels[rank::processes]

    def _advance(self, inputs: Tensors, labels: Sequence[Any]) -> None:
        import torch

        torch.manual_seed(_mixed(self._context.seed, self._step, self._accelerator.process_index))
        self._learner.train()
        rate = self._options.learning_rate * self._rate()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        with self._accelerator.autocast():
            loss = self._learner(augmented(inputs, self._options.augment), labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RecipeError(
                f"training diverged: the loss of step {self._step + 1} is {value}", hint="lower training: {learning_rate: ...}"
            )
        self._accelerator.backward(loss)
        if self._options.clip is not None:
            self._accelerator.clip_grad_norm_(self._learner.parameters(), self._options.clip)
        self._optimizer.step()
        if self._after_step:
            self._after_step()
        self._step += 1
        self._losses.append(value)
        recent = self._losses[-TOLD_STEPS:]
        self._context.progress.advance(self._step, self._total, f"loss {sum(recent) / len(recent):.3f}{self._told()}")

    def _told(self) -> str:
        return f", {self._metric} {self._epochs[-1].held_out:.2f}" if self._epochs else ""

    def _rate(self) -> float:
        """Share of the learning rate: linear warm-up, then half a cosine that ends at zero with the steps or the minutes."""
        done = self._step / self._total
        if self._options.max_minutes is not None:
            done = max(done, self._spent / (self._options.max_minutes * 60))
        warmup = self._options.warmup
        if done < warmup:
            return (done + 1 / self._total) / (warmup + 1 / self._total)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))

    def _out_of_time(self) -> bool:
        return self._options.max_minutes is not None and self._spent >= self._options.max_minutes * 60

    def _finished(self) -> bool:
        if self._step >= self._total or (self._epochs and self._out_of_time()):
            return True
        patience = self._options.patience
        if patience is None or len(self._epochs) <= patience:
            return False
        return max(e.held_out for e in self._epochs[-patience:]) <= max(e.held_out for e in self._epochs[:-patience])

    def _close_epoch(self) -> None:
        loss = sum(self._losses) / max(1, len(self._losses))
        self._losses = []
        held_out = self._judged()
        if not self._epochs or held_out > max(epoch.held_out for epoch in self._epochs):
            state = self._accelerator.unwrap_model(self._learner).state_dict()
            self._best = {name: value.detach().to("cpu", copy=True) for name, value in state.items()}
        self._epochs.append(Epoch(round(self._step / self._steps_an_epoch, 4), loss, held_out))
        self._context.progress.note(f"epoch {self._epochs[-1].epoch:g}: loss {loss:.4f}, {self._metric} {held_out:.2f} on held-out samples")

    def _judged(self) -> float:
        """The task's metric on the held-out part, or minus the objective's loss where there are no labels."""
        import numpy as np
        import torch

        learner = self._accelerator.unwrap_model(self._learner)
        learner.eval()
        observations, losses, counts = [], [], []
        torch.manual_seed(self._context.seed)
        with torch.no_grad():
            for arrays, labels in self._held_out.batches(self._options.batch):
                inputs = {name: torch.from_numpy(array).to(self._accelerator.device) for name, array in arrays.items()}
                if self._labelled:
                    outputs = {n: v.float().cpu().numpy() for n, v in predictions(self._module, inputs).items()}
                    observations.append(self._task.observe(outputs, labels, outputs))
                else:
                    losses.append(float(learner(inputs, labels)))
                    counts.append(len(labels))
        if self._labelled:
            return float(self._task.metrics(np.concatenate(observations))[self._task.primary])
        return -float(np.average(losses, weights=counts))

    def _save(self) -> None:
        """Write everything that the next step depends on; what was there before is replaced in one step."""
        import torch

        if self._file is None or not self._accelerator.is_main_process:
            return
        content = {
            "learner": self._accelerator.unwrap_model(self._learner).state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self._best,
            "step": self._step,
            "epochs": [vars(epoch) for epoch in self._epochs],
            "losses": self._losses,
            "before": self._before,
            "spent": self._spent,
        }
        temporary = self._file.with_suffix(".tmp")
        torch.save(content, temporary)
        temporary.replace(self._file)

    def _resumed(self) -> bool:
        """Take up the checkpoint that an interrupted run left, if there is one."""
        import torch

        if self._file is None or not self._file.is_file():
            return False
        content = torch.load(self._file, map_location="cpu", weights_only=True)
        self._accelerator.unwrap_model(self._learner).load_state_dict(content["learner"])
        self._optimizer.load_state_dict(content["optimizer"])
        self._best, self._step, self._losses = content["best"], content["step"], content["losses"]
        self._epochs = [Epoch(**epoch) for epoch in content["epochs"]]
        self._before, self._spent = content["before"], content["spent"]
        self._context.progress.note(f"goes on from step {self._step} of {self._total}")
        return True


def _learner(module: torch.nn.Module, helper: torch.nn.Module | None, objective: Objective) -> torch.nn.Module:
    """Put module, helper and loss into one module, so that several processes share its gradients whatever the objective runs."""
    import torch

    class Learner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.helper = helper

        def forward(self, inputs: Tensors, labels: Sequence[Any]) -> torch.Tensor:
            return objective(self.module, inputs, labels)

    return Learner()


def _steps(samples: int, batch: int) -> int:
    """Batches of an epoch; a last one of a single sample is left out, for batch norm has no variance of it."""
    full, rest = divmod(samples, batch)
    return full + (rest > 1 or full == 0)


def has_bf16() -> bool:
    """Whether the hardware multiplies bfloat16 faster than float."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool({"amx_bf16", "avx512_bf16"} & set(this_machine().features))


def _mixed(*numbers: int) -> int:
    """One seed out of several numbers."""
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
