"""Many assignments of precision to the layers of one model, made one after the other to see which is best."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.quantization import LayerPlan

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact

FLOAT = "fp32"
BETWEEN = "stands between layers in float"


def nothing(floats: Collection[str]) -> set[str]:
    """No layer follows others."""
    return set()


@dataclass(frozen=True)
class Trials:
    """What a quantizer can make of one model.

    Attributes:
        plan: every layer as the quantizer would have it.
        make: writes the model that follows a plan into an empty folder; what all plans share (ranges, say) was found before.
        choices: what may stay in float, in the order of the graph: layers of the plan that do so together, by a name.
        stranded: further layers that are in float if some are, since they stand between them.
    """

    plan: Sequence[LayerPlan]
    make: Callable[[list[LayerPlan], Path], Artifact]
    choices: Mapping[str, tuple[str, ...]]
    stranded: Callable[[Collection[str]], Collection[str]] = nothing

    def without(self, floats: Collection[str], reasons: Mapping[str, str] | None = None) -> list[LayerPlan]:
        """Return the plan with some choices in float.

        Args:
            floats: names among ``choices``.
            reasons: why a choice is as it is, by name.
        """
        said = {layer: text for name, text in (reasons or {}).items() for layer in self.choices[name]}
        kept = {layer for name in floats for layer in self.choices[name]}
        between = set(self.stranded(kept)) - kept

        def changed(row: LayerPlan) -> LayerPlan:
            if row.layer in between:
                return row.model_copy(update={"precision": FLOAT, "reason": BETWEEN})
            precision = FLOAT if row.layer in kept else row.precision
            return row.model_copy(update={"precision": precision, "reason": said.get(row.layer, row.reason)})

        return [row if row.precision == FLOAT else changed(row) for row in self.plan]

    def alone(self, name: str) -> list[LayerPlan]:
        """Return the plan with everything but one choice in float."""
        return [row if row.layer in self.choices[name] else row.model_copy(update={"precision": FLOAT}) for row in self.plan]


def each_layer(plan: Sequence[LayerPlan]) -> dict[str, tuple[str, ...]]:
    """Every layer that a plan does not leave in float, as a choice of its own."""
    return {row.layer: (row.layer,) for row in plan if row.precision != FLOAT}


def layers_and_kinds(
    plan: Sequence[LayerPlan], computing: Collection[str], passive: Collection[str], followers: Mapping[str, Sequence[str]] | None = None
) -> dict[str, tuple[str, ...]]:
    """Choices of a plan: each layer that computes, and all others of a kind together.

    Args:
        plan: the layers in the order of the graph.
        computing: layers that are choices of their own.
        passive: operators that are no choice, since they only pass on what they read.
        followers: layers that melt into a computing one.
    """
    melted = {name for names in (followers or {}).values() for name in names}
    found: dict[str, tuple[str, ...]] = {}
    for row in plan:
        if row.precision == FLOAT or row.layer in melted:
            continue
        if row.layer in computing:
            found[row.layer] = (row.layer, *(followers or {}).get(row.layer, ()))
        elif row.operator not in passive:
            name = f"every {row.operator}"
            found[name] = (*found.get(name, ()), row.layer)
    return found
