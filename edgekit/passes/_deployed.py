"""What the passes on weights share: the model as it will be deployed, with batch norm folded, and calibration samples run through it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from edgekit.algorithms.folding import Fold, fold, foldable
from edgekit.core.chatter import innermost, muted
from edgekit.core.errors import RecipeError
from edgekit.core.modules import example_call
from edgekit.passes._engine import predictions

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context
    from edgekit.passes._engine import Tensors

BATCH = 16


def captured(module: torch.nn.Module, context: Context, *, any_batch: bool = False) -> torch.export.ExportedProgram:
    """Capture the graph of what a module computes, for two samples or for any number.

    Raises:
        RecipeError: it can't be captured; says why.
        ExportError: the module does not take the data set's inputs.
    """
    import torch

    call = example_call(module, context, batch=2)
    with muted():
        try:
            return torch.export.export(module, call.args, call.kwargs, dynamic_shapes=call.dims() if any_batch else None)
        except Exception as problem:
            raise RecipeError(
                f"which layers follow each other can't be told, for the model's graph can't be captured: {innermost(problem)}",
                hint="leave the pass out, or let forward do the same for all inputs",
            ) from problem


def folds_of(module: torch.nn.Module, context: Context) -> list[dict[str, str]]:
    """Find the batch norms to fold, as plain data.

    Raises:
        RecipeError: the model's graph can't be captured.
    """
    return [asdict(pair) for pair in foldable(captured(module, context), module)]


def folded(module: torch.nn.Module, folds: list[dict[str, str]]) -> torch.nn.Module:
    """Return a copy of a module with batch norms folded."""
    return fold(copy.deepcopy(module), read_folds(folds))


def read_folds(folds: list[dict[str, str]]) -> list[Fold]:
    """Read from plain data what :func:`folds_of` found."""
    return [Fold(**pair) for pair in folds]


def run(module: torch.nn.Module, context: Context, samples: int) -> None:
    """Run calibration samples through a module, a few at a time; whoever wants to see something hooks its layers.

    Raises:
        RecipeError: the recipe names no calibration set.
    """
    for inputs in calibration(context, samples):
        predictions(module, inputs)


def calibration(context: Context, samples: int) -> Iterator[Tensors]:
    """Yield calibration samples, a few at a time, without gradients.

    Raises:
        RecipeError: the recipe names no calibration set.
    """
    import torch

    if context.calibration is None:
        raise RecipeError("this pass needs calibration samples", hint="name a set: data: {calibration: SET}")
    with torch.no_grad():
        for batch, _ in context.calibration.batches(BATCH, limit=samples):
            yield {name: torch.from_numpy(array) for name, array in batch.items()}
