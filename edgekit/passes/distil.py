"""Distillation: a student learns to give its teacher's outputs, with labels or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.plugin import Improvement, Pass
from edgekit.core.recipe import PluginWish
from edgekit.passes._engine import Training, train
from edgekit.passes._objectives import Lesson, from_teacher, loaded, task_of

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


class Distil(Pass):
    """Train the model to follow a teacher.

    Reference: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531).
    """

    trains = True
    requires = {"accelerate": "accelerate"}

    teacher: PluginWish = Field("original", description="'original', an earlier pass of the recipe by name, or any model.")
    lesson: Lesson = Lesson()
    training: Training = Training()

    @property
    def taught_by(self) -> PluginWish:
        """The teacher."""
        return self.teacher

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Say how it will be taught."""
        return {"lesson": self.lesson.model_dump(mode="json"), "training": self.training.model_dump(mode="json")}

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Train.

        Raises:
            RecipeError: no training set, no teacher, or the training diverges.
            DataError: labels that don't fit the task.
        """
        objective = from_teacher(task_of(context), loaded(context.teacher), Lesson(**plan["lesson"]))
        history = train(module, objective, Training(**plan["training"]), context)
        return Improvement(module, history.record(), (history.note(),))

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Training changes no structure."""
        return module
