"""Distillation: a student learns to give its teacher's outputs, and to think as it does, with labels or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.plugin import Improvement, Pass
from edgekit.core.recipe import PluginWish
from edgekit.passes._engine import Training, train
from edgekit.passes._inside import DeepLesson, Point, attention_formed, find_points, from_inside, projections
from edgekit.passes._objectives import loaded, task_of

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


class Distil(Pass):
    """Train the model to follow a teacher in its outputs and, if asked, in hidden states, attention maps or features of named modules.

    References: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531); for the rest see the lesson.
    """

    trains = True
    requires = {"accelerate": "accelerate"}

    teacher: PluginWish = Field("original", description="'original', an earlier pass of the recipe by name, or any model.")
    lesson: DeepLesson = DeepLesson()
    training: Training = Training()

    @property
    def taught_by(self) -> PluginWish:
        """The teacher."""
        return self.teacher

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Say how it will be taught, and what is compared inside.

        Raises:
            RecipeError: no teacher, or modules that don't exist or can't be compared.
        """
        points = find_points(module, loaded(context.teacher), self.lesson, context.example)
        return {
            "lesson": self.lesson.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
            "points": [point.model_dump(mode="json") for point in points],
        }

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Train.

        Raises:
            RecipeError: no training set, no teacher, or the training diverges.
            DataError: labels that don't fit the task.
        """
        teacher, lesson = loaded(context.teacher), DeepLesson(**plan["lesson"])
        points = [Point(**point) for point in plan["points"]]
        maps = projections(points, context.seed)
        objective = from_inside(task_of(context), teacher, lesson, points, maps)
        with attention_formed(lesson, module, teacher):
            history = train(module, objective, Training(**plan["training"]), context, helper=maps)
        return Improvement(module, history.record(), (history.note(),))

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Training changes no structure."""
        return module
