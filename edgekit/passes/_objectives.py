"""What a student is asked to do, shared by the passes that learn from a teacher: match labels, and match the teacher's outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.errors import RecipeError
from edgekit.core.schema import Schema
from edgekit.passes._engine import predictions

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context, Task
    from edgekit.passes._engine import Objective, Tensors


class Lesson(Schema):
    """How much of the loss is what.

    Reference: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531).
    """

    temperature: float = Field(4.0, gt=0, description="Softens the class distributions that are compared.")
    labels: float = Field(0.1, ge=0, le=1, description="Share of the loss on labels in that on labels and outputs; 0 needs no labels.")


def from_labels(task: Task) -> Objective:
    """Ask for the labels alone."""

    def objective(module: torch.nn.Module, inputs: Tensors, labels: Sequence[Any]) -> torch.Tensor:
        return task.loss(predictions(module, inputs), labels)

    return objective


def from_teacher(task: Task, teacher: torch.nn.Module, lesson: Lesson) -> Objective:
    """Ask for the teacher's outputs, and for the labels as far as the lesson says."""

    def objective(module: torch.nn.Module, inputs: Tensors, labels: Sequence[Any]) -> torch.Tensor:
        outputs = predictions(module, inputs)
        return mixed_loss(task, outputs, taught(teacher, inputs), labels, lesson)

    return objective


def in_float(objective: Objective) -> Objective:
    """Compute a loss in 32 bits whatever the hardware prefers: bfloat16 can't tell the values of an integer grid apart."""
    import torch

    def exact(module: torch.nn.Module, inputs: Tensors, labels: Sequence[Any]) -> torch.Tensor:
        with torch.autocast(next(iter(inputs.values())).device.type, enabled=False):
            return objective(module, inputs, labels)

    return exact


def mixed_loss(task: Task, outputs: Tensors, wanted: Tensors, labels: Sequence[Any], lesson: Lesson) -> torch.Tensor:
    """Weigh the loss on labels against the difference to the teacher's outputs."""
    loss = task.imitation(outputs, wanted, lesson.temperature) * (1 - lesson.labels)
    return loss + task.loss(outputs, labels) * lesson.labels if lesson.labels else loss


def taught(teacher: torch.nn.Module, inputs: Tensors) -> Tensors:
    """Outputs of a teacher, on the device of the inputs, without gradients."""
    import torch

    with torch.no_grad():
        return predictions(teacher.to(next(iter(inputs.values())).device), inputs)


def loaded(teacher: Callable[[], torch.nn.Module] | None) -> torch.nn.Module:
    """Load the teacher, in evaluation mode and without gradients.

    Raises:
        RecipeError: there is none.
    """
    if teacher is None:
        raise RecipeError("there is no teacher to learn from", hint="name one: {use: ..., teacher: original}")
    return teacher().eval().requires_grad_(False)


def task_of(context: Context) -> Task:
    """Return the task.

    Raises:
        RecipeError: the run has none.
    """
    if context.task is None:
        raise RecipeError("training needs a task that says what is right", hint="name one with --task")
    return context.task
