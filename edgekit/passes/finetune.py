"""Training on labels: brings a pretrained network to the data at hand, and sets the honest reference for compression that trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.core.plugin import Improvement, Pass
from edgekit.passes._engine import Training, train
from edgekit.passes._objectives import from_labels, task_of

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


class Finetune(Pass):
    """Train all weights on the labels of the training set."""

    trains = True
    requires = {"accelerate": "accelerate"}

    training: Training = Training()

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Say how it will be trained."""
        return self.training.model_dump(mode="json")

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Train.

        Raises:
            RecipeError: no training set, or the training diverges.
            DataError: labels that don't fit the task.
        """
        history = train(module, from_labels(task_of(context)), Training(**plan), context)
        return Improvement(module, history.record(), (history.note(),))

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Training changes no structure."""
        return module
