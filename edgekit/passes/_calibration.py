"""What the passes on matrix products share: which layers they take, and what flows into those on calibration samples."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.errors import QuantizationError, RecipeError
from edgekit.core.quantization import excluded
from edgekit.core.schema import Schema
from edgekit.passes._engine import predictions

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Batch
    from edgekit.core.plugin import Context

See = Callable[[str, "torch.Tensor"], None]
"""Told a layer's name and the rows [n, K] that flow into it."""
SeeBoth = Callable[[str, "torch.Tensor", "torch.Tensor"], None]
"""Told a layer's name, the rows that flow into it, and those that flow into the reference's."""


class Int4(Schema):
    """The grid that weights are put on; the quantizer that stores them must be given the same."""

    group: int | None = Field(32, ge=16, description="Weights that share a scale; none for a whole channel.")
    symmetric: bool = Field(True, description="Whether zero is the middle of a group's range; else it has a zero point.")

    def note(self, layers: int) -> str:
        """Return one line for the report."""
        groups = f"groups of {self.group}" if self.group else "whole channels"
        kind = "symmetric" if self.symmetric else "with zero points"
        return f"{layers} layers on int4 grids ({groups}, {kind}); int4 quantizers with these settings store them without loss"


def matrix_products(module: torch.nn.Module, exclude: Sequence[str]) -> dict[str, torch.nn.Linear]:
    """Return a module's linear layers by name, without those excluded and those whose weights are shared or computed from others.

    Raises:
        RecipeError: a pattern that matches no layer, or nothing is left.
    """
    from torch import nn

    owners: dict[int, int] = {}
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    found = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    try:
        kept = excluded(found, exclude)
    except QuantizationError as problem:
        raise RecipeError(problem.message, hint=problem.hint) from problem
    chosen = {name: part for name, part in found.items() if name not in kept and owners.get(id(part.weight)) == 1}
    if not chosen:
        raise RecipeError("the model has no matrix products with weights of their own", hint="exclude fewer layers, or leave this pass out")
    return chosen


def weights_of(module: torch.nn.Module, name: str) -> torch.Tensor:
    """Return a copy of a linear layer's weights [C, K]."""
    weights: torch.Tensor = module.get_parameter(f"{name}.weight").detach().clone()
    return weights


def set_weights(module: torch.nn.Module, name: str, weights: torch.Tensor) -> None:
    """Give a layer other weights, in place."""
    import torch

    with torch.no_grad():
        module.get_parameter(f"{name}.weight").copy_(weights)


def watch(module: torch.nn.Module, names: Sequence[str], context: Context, samples: int, see: See) -> None:
    """Run calibration samples through a module and tell what flows into layers; padding is left out where a mask says so.

    Raises:
        RecipeError: the recipe names no calibration set.
    """
    for inputs in _samples(context, samples):
        for name, rows in _flowing(module, names, inputs).items():
            see(name, rows)


def watch_both(
    module: torch.nn.Module, reference: torch.nn.Module, names: Sequence[str], context: Context, samples: int, see: SeeBoth
) -> None:
    """Tell what flows into layers of a module, and on the same samples into those of another of the same structure.

    Raises:
        RecipeError: the recipe names no calibration set.
    """
    for inputs in _samples(context, samples):
        wanted, found = _flowing(reference, names, inputs), _flowing(module, names, inputs)
        for name, rows in found.items():
            see(name, rows, wanted[name])


def stages(module: torch.nn.Module, names: Sequence[str], example: Batch) -> list[list[str]]:
    """Group layers that take the very same tensor, in the order in which the module runs them."""
    import torch

    taken: list[tuple[str, torch.Tensor]] = []

    def hook(name: str) -> Callable[[Any, tuple[torch.Tensor, ...], Any], None]:
        def remember(_: Any, given: tuple[torch.Tensor, ...], __: Any) -> None:
            taken.append((name, given[0]))

        return remember

    with hooked((module.get_submodule(name), hook(name)) for name in names), torch.no_grad():
        predictions(module, {name: torch.from_numpy(array) for name, array in example.items()})
    made: list[tuple[torch.Tensor, list[str]]] = []
    for name, given in taken:
        known = next((group for tensor, group in made if tensor is given), None)
        if known is None:
            made.append((given, [name]))
        elif name not in known:
            known.append(name)
    return [group for _, group in made]


def _samples(context: Context, samples: int) -> Iterator[dict[str, torch.Tensor]]:
    import torch

    if context.calibration is None:
        raise RecipeError("there is nothing to calibrate with", hint="add 'calibration: SET' under 'data'")
    total = min(samples, len(context.calibration))
    for done, (arrays, _) in enumerate(context.calibration.batches(1, limit=samples), start=1):
        yield {name: torch.from_numpy(array) for name, array in arrays.items()}
        context.progress.advance(done, total)


def _flowing(module: torch.nn.Module, names: Sequence[str], inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rows [n, K] that flow into each layer; the module runs no further than it must."""
    import torch

    given = inputs.get("attention_mask")
    mask = given.bool() if given is not None and given.ndim == 2 else None
    found: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Callable[[Any, tuple[torch.Tensor, ...], Any], None]:
        def tell(_: Any, given: tuple[torch.Tensor, ...], __: Any) -> None:
            rows = given[0].detach()
            rows = rows[mask] if mask is not None and rows.ndim == 3 and rows.shape[:2] == mask.shape else rows
            rows = rows.reshape(-1, rows.shape[-1])
            found[name] = torch.cat([found[name], rows]) if name in found else rows
            if len(found) == len(names):
                raise _Enough

        return tell

    with (
        hooked((module.get_submodule(name), hook(name)) for name in names),
        torch.no_grad(),
        contextlib.suppress(_Enough),
    ):
        predictions(module, inputs)
    return found


class _Enough(Exception):  # noqa: N818 - no error
    """Ends a run of a module whose layers have all been seen."""


@contextlib.contextmanager
def hooked(hooks: Any) -> Iterator[None]:
    """Keep forward hooks on modules for a while."""
    handles = [part.register_forward_hook(hook) for part, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def blocks(names: Sequence[str]) -> list[list[str]]:
    """Group layers by the repeated block they are in (``model.layers.3``), in order; others stand alone."""
    made: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        numbers = [i for i, part in enumerate(parts) if part.isdigit()]
        made.setdefault(".".join(parts[: numbers[0] + 1]) if numbers else name, []).append(name)
    return list(made.values())
