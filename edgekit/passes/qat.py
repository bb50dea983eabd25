"""Quantization-aware training: the network learns with the rounding that int8 kernels will do, in whichever format.

The result is a float checkpoint, as the exporters take it. Its weights lie on the grid that the formats' own quantizers choose, and the
ranges of its activations travel with it; so ONNX Runtime, OpenVINO and LiteRT make the integers that were trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.algorithms.folding import fold, restructured
from edgekit.core.plugin import Improvement, Pass
from edgekit.core.recipe import PluginWish
from edgekit.passes._deployed import folded, folds_of, read_folds
from edgekit.passes._engine import Training, train
from edgekit.passes._objectives import Lesson, from_labels, from_teacher, in_float, loaded, task_of
from edgekit.passes._rounded import Grids, calibrate, learned, rounded, settle

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context
    from edgekit.passes._engine import Objective


class GentleTraining(Training):
    """How a network that already knows its task is trained."""

    learning_rate: float = Field(1e-4, gt=0, description="The highest, after warm-up.")


class Qat(Pass):
    """Fold batch norm, round weights and activations in every step, and train weights and ranges to bear it.

    References: Jacob et al. 2018 (arXiv:1712.05877); Esser et al. 2020 (arXiv:1902.08153) and Jain et al. 2020 (arXiv:1903.08066) for
    trained ranges.
    """

    trains = True
    requires = {"accelerate": "accelerate"}

    granularity: Literal["channel", "tensor"] = Field(
        "channel", description="One weight scale a channel, or one a tensor; 'quantization' says the same."
    )
    weight_bits: int = Field(8, ge=2, le=8, description="Bits of a weight.")
    symmetric: bool = Field(False, description="Activations have zero point 0, as TensorRT wants them.")
    samples: int = Field(300, ge=1, description="Calibration samples that ranges start from.")
    teacher: PluginWish | None = Field(None, description="'original' or any other teacher; without one it learns from labels alone.")
    lesson: Lesson = Lesson()
    training: GentleTraining = GentleTraining()

    @property
    def taught_by(self) -> PluginWish | None:
        """The teacher."""
        return self.teacher

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Decide which batch norms are folded and which weights and tensors are rounded.

        Raises:
            RecipeError: the model's graph can't be captured, or has nothing to round.
        """
        grids = Grids(self.granularity, self.weight_bits, self.symmetric)
        folds = folds_of(module, context)
        net = rounded(folded(module, folds), grids, context)
        return {
            "folds": folds,
            "grids": vars(grids),
            "weights": list(net.weights),
            "tensors": {point.name: point.range for point in net.points},
        }

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Calibrate, train, and put the weights on their grids.

        Raises:
            RecipeError: no training set, no teacher, or the training diverges.
            DataError: labels that don't fit the task.
        """
        fold(module, read_folds(plan["folds"]))
        net = rounded(module, Grids(**plan["grids"]), context)
        data = context.calibration or context.training
        if data is not None:
            calibrate(net, data, self.samples, context)
        history = train(net.graph, self._objective(context), self.training, context)
        settle(net)
        ended = {**plan, "metadata": {"trained": learned(net, context).model_dump(mode="json")}}
        return Improvement(module, history.record(), (history.note(),), ended)

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Fold batch norms away; rounding changes no structure."""
        return restructured(module, read_folds(plan["folds"]))

    def _objective(self, context: Context) -> Objective:
        task = task_of(context)
        objective = from_teacher(task, loaded(context.teacher), self.lesson) if self.teacher else from_labels(task)
        return in_float(objective)
