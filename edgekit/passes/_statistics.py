"""What flows through a network's layers, measured on samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import RecipeError
from edgekit.passes._engine import predictions

if TYPE_CHECKING:
    import torch

    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Context

BATCH = 64


def input_power(module: torch.nn.Module, layers: Sequence[str], data: DataSet, samples: int) -> dict[str, torch.Tensor]:
    """Mean square [I] of each input channel of some layers, over samples and places; of those that run.

    Args:
        module: in evaluation mode.
        layers: convolutions and linear layers, by name.
        data: where the samples come from.
        samples: how many to read.
    """
    import torch

    total: dict[str, torch.Tensor] = {}
    count: dict[str, int] = {}

    def watch(name: str) -> Any:
        def note(layer: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            channels = given[0].detach().movedim(-1 if isinstance(layer, torch.nn.Linear) else 1, 0).flatten(1).double()
            total[name] = total.get(name, torch.zeros(len(channels), dtype=torch.float64)) + channels.square().sum(1)
            count[name] = count.get(name, 0) + channels.shape[1]

        return note

    hooks = [module.get_submodule(name).register_forward_pre_hook(watch(name)) for name in layers]
    try:
        with torch.no_grad():
            for arrays, _ in data.batches(BATCH, limit=samples):
                predictions(module, {name: torch.from_numpy(array) for name, array in arrays.items()})
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total[name] / count[name] for name in layers if name in total}


def samples_of(context: Context) -> DataSet:
    """The samples to look at: the training set's, or else the calibration set's.

    Raises:
        RecipeError: there is neither.
    """
    data = context.training or context.calibration
    if data is None:
        raise RecipeError("this importance needs samples", hint="add 'training: SET' under 'data', or use importance: magnitude")
    return data
