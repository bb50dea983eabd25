"""Scales that move from one layer into the next: what the first gives is divided, what the second takes is multiplied.

Which layers can trade is found by trial: powers of two leave the arithmetic exact, so a trade that changes the model's outputs is none.
Neither a residual connection nor an activation function in between goes unnoticed, whatever the architecture is called.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.core.modules import outputs_of
from edgekit.passes._calibration import blocks, hooked, weights_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    from edgekit.core.artifacts import Batch

TOLERANCE = 1e-5
"""Of the outputs' largest value; a trade that is none changes far more."""


@dataclass(frozen=True)
class Fold:
    """A norm or linear layer, and the linear layers that alone take what it gives."""

    source: str
    targets: tuple[str, ...]


def fold(module: torch.nn.Module, found: Fold, scales: torch.Tensor) -> None:
    """Divide what the source gives by ``scales`` [K] and multiply what the targets take, in place."""
    import torch

    source = module.get_submodule(found.source)
    with torch.no_grad():
        for _, parameter in source.named_parameters(recurse=False):
            parameter.div_(scales if parameter.ndim == 1 else scales[:, None])
        for name in found.targets:
            module.get_parameter(f"{name}.weight").mul_(scales)


def find_folds(module: torch.nn.Module, layers: list[str], example: Batch, *, linear: bool) -> list[Fold]:
    """Find the layers that can trade scales; leaves the module as it is.

    Args:
        module: what is looked at.
        layers: the linear layers that may change.
        example: inputs to try with.
        linear: whether linear layers may be sources too, not only norms.
    """
    tried = copy.deepcopy(module)
    expected = _outputs(tried, example)
    found: list[Fold] = []
    for candidate in _candidates(tried, layers, example, linear=linear):
        if any(set(candidate.targets) & set(known.targets) for known in found):
            continue
        scales = _powers_of_two(weights_of(tried, candidate.targets[0]).shape[1])
        fold(tried, candidate, scales)
        same = _same(_outputs(tried, example), expected)
        fold(tried, candidate, 1 / scales)
        if same:
            found.append(candidate)
    return found


def _candidates(module: torch.nn.Module, layers: list[str], example: Batch, *, linear: bool) -> Iterator[Fold]:
    """Norms with the linear layers that take their very output, then earlier linear layers of the same block with as many channels."""
    from torch import nn

    parts = dict(module.named_modules())
    norms = [name for name, part in parts.items() if [p.ndim for p in part.parameters(recurse=False)] in ([1], [1, 1])]
    linears = [name for name, part in parts.items() if isinstance(part, nn.Linear)]
    given: dict[str, Any] = {}
    taken: dict[str, Any] = {}
    ran: list[str] = []

    def remember(name: str) -> Any:
        def hook(_: Any, inputs: tuple[Any, ...], output: Any) -> None:
            given[name], taken[name] = output, inputs[0] if inputs else None
            ran.append(name)

        return hook

    with hooked((parts[name], remember(name)) for name in (*norms, *linears)):
        _outputs(module, example)
    for norm in norms:
        fed = tuple(name for name in linears if norm in given and taken.get(name) is given[norm])
        if fed and set(fed) <= set(layers):
            yield Fold(norm, fed)
    if not linear:
        return
    for block in blocks([name for name in ran if name in layers]):
        for place, target in enumerate(block):
            for source in reversed(block[:place]):
                if weights_of(module, source).shape[0] == weights_of(module, target).shape[1]:
                    yield Fold(source, (target,))


def _powers_of_two(count: int) -> torch.Tensor:
    import torch

    return 2.0 ** torch.randint(-2, 3, (count,), generator=torch.Generator().manual_seed(0))


def _outputs(module: torch.nn.Module, example: Batch) -> list[np.ndarray]:
    return list(outputs_of(module, [example])[0][1].values())


def _same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    import numpy as np

    pairs = zip(found, expected, strict=True)
    return all(bool(np.abs(a - b).max(initial=0) <= TOLERANCE * max(float(np.abs(b).max(initial=0)), 1e-30)) for a, b in pairs)
