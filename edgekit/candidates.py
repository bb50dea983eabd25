"""Which models a recipe makes for which target: decided as plain data, before any work starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.core.errors import RecipeError, TargetError, closest
from edgekit.core.plugin import Exporter
from edgekit.core.registry import load, names, precisions_of, quantizers_for
from edgekit.core.target import family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.core.plugin import Task
    from edgekit.core.recipe import Recipe
    from edgekit.core.target import Backend, Target

FLOAT = "fp32"
EXECUTION_ONLY = {"bf16": "bf16"}
"""Precisions that a runtime computes from the float model, with the runtime setting that asks for it."""


@dataclass(frozen=True)
class Candidate:
    """One model for one target.

    Attributes:
        target: the profile.
        backend: the runtime it is for.
        precision: what the report calls it: fp32, bf16, fp16, int8-static, int8-dynamic.
        quantizer: name of the quantizer that makes it; None when the exported model serves as it is.
        execution: precision that the runtime is asked to compute in.
        passed: whether it comes from the checkpoint after the recipe's passes.
        wanted: whether it may be delivered; an uncompressed export may be a mere yardstick.
    """

    target: Target
    backend: Backend
    precision: str
    quantizer: str | None
    execution: str
    passed: bool
    wanted: bool

    @property
    def id(self) -> str:
        """Name in the report."""
        return f"{self.target.name}/{self.backend.runtime}-{self.precision}{'' if self.role == 'export' or not self.passed else '+passes'}"

    @property
    def role(self) -> Literal["export", "candidate"]:
        """``export`` for the uncompressed model, else ``candidate``."""
        return "export" if self.precision == FLOAT and not self.passed else "candidate"


def plan_candidates(
    recipe: Recipe, targets: Sequence[Target], task: Task, *, measurable: Sequence[bool], reachable: Sequence[str] = ()
) -> list[Candidate]:
    """Decide what to make.

    A target that can be measured here gets every runtime it has, since only measuring tells which is fastest; any other gets its
    preferred runtime, or the ones that the recipe names. Every runtime gets the uncompressed export as its yardstick. Formats that the
    source can't become are left out where the recipe names none.

    Raises:
        RecipeError: an unknown format, one that the source can't become, or passes on a ready graph.
        TargetError: a target does not run a wanted format or runtime, or can't compute a wanted precision in any of them.
    """
    for name in (*recipe.formats, *recipe.quantization_by_format):
        if name not in exportable():
            raise RecipeError(f"unknown format {name!r}", hint=closest(name, exportable()))
    for name, exporter in recipe.exporters.items():
        if name not in exportable() or load(Exporter, exporter).writes not in (name, "") or (exporter in exportable() and exporter != name):
            raise RecipeError(f"exporters: {exporter!r} does not write {name!r}", hint="write {onnx: optimum}, or leave it out")
    if reachable and recipe.passes:
        raise RecipeError("passes need a PyTorch module, and this model is a ready graph", hint="start from the PyTorch checkpoint")
    for name in recipe.formats:
        if reachable and name not in reachable:
            raise RecipeError(f"a ready graph of this kind can't become {name}", hint=f"it becomes: {', '.join(reachable)}")
    found: list[Candidate] = []
    for target, measured in zip(targets, measurable, strict=True):
        backends = _backends(recipe, target, reachable, all_of_them=measured)
        made = [c for backend in backends for c in _of_backend(recipe, target, backend, task, here=measured)]
        if recipe.precisions and not any(c.wanted for c in made):
            wish = ", ".join(recipe.precisions)
            offered = sorted({p for b in backends for p in b.precisions})
            raise TargetError(
                f"{target.name} computes {wish} in none of {', '.join(b.runtime for b in backends)}",
                hint=f"use one of: {', '.join(offered)}",
            )
        found += made
    computed = {family(c.precision) for c in found if c.wanted}
    for wish in recipe.precisions:
        if family(wish) not in computed:
            raise TargetError(
                f"{wish} is computed by none of the targets ({', '.join(target.name for target in targets)})",
                hint="leave it out, or name a target that computes it",
            )
    return found


def exportable() -> list[str]:
    """Formats that can be delivered; PyTorch's own serves as the original only."""
    return [name for name in names(Exporter) if name != "torch" and not load(Exporter, name).writes]


def _backends(recipe: Recipe, target: Target, reachable: Sequence[str], *, all_of_them: bool) -> list[Backend]:
    for runtime in recipe.runtimes:
        target.backend(runtime=runtime)
    for name in recipe.formats:
        target.backend(format=name)
    fitting = [
        b
        for b in target.backends
        if (not reachable or b.format in reachable)
        and (not recipe.formats or b.format in recipe.formats)
        and (b.runtime in recipe.runtimes if recipe.runtimes else not b.on_request)
    ]
    left = [name for name in recipe.formats if name not in {b.format for b in fitting}]
    if left or not fitting:
        raise TargetError(
            f"{target.name} runs {', '.join(left) or 'nothing'} in none of the wanted runtimes",
            hint="it has " + ", ".join(f"{b.runtime} ({b.format}{', on request' if b.on_request else ''})" for b in target.backends),
        )
    if all_of_them or recipe.runtimes:
        return fitting
    return [next(b for b in fitting if b.format == name) for name in recipe.formats] or fitting[:1]


def _of_backend(recipe: Recipe, target: Target, backend: Backend, task: Task, *, here: bool) -> list[Candidate]:
    wishes = recipe.precisions or _worth_trying(backend, here=here)
    passed = bool(recipe.passes)
    found = [Candidate(target, backend, FLOAT, None, "f32", passed=False, wanted=not recipe.precisions or FLOAT in wishes)]
    for wish in wishes:
        precision = _int8(task, backend) if wish == "int8" else wish
        if family(precision) not in backend.precisions:
            continue
        if (precision == FLOAT and not passed) or precision in {c.precision for c in found[1:]}:
            continue
        quantizer = None
        if precision != FLOAT and precision not in EXECUTION_ONLY:
            fitting = quantizers_for(backend.format, precision)
            if not fitting:
                raise TargetError(
                    f"{backend.format} has no quantizer for {precision}",
                    hint=f"{backend.format} offers: {', '.join(precisions_of(backend.format))}",
                )
            quantizer = fitting[0]
        found.append(Candidate(target, backend, precision, quantizer, EXECUTION_ONLY.get(precision, "f32"), passed=passed, wanted=True))
    return found


def _int8(task: Task, backend: Backend) -> str:
    return "int8-dynamic" if backend.format in task.dynamic_int8 else "int8-static"


def _worth_trying(backend: Backend, *, here: bool) -> tuple[str, ...]:
    """Precisions that may pay on a backend; fp16 where int8 is not to be had, and bf16 where the target's own CPU is here to compute it."""
    wishes = [FLOAT]
    wishes += [p for p in (*(EXECUTION_ONLY if here else ()), "int8") if p in backend.precisions]
    if "int8" not in backend.precisions and "fp16" in backend.precisions:
        wishes.append("fp16")
    return tuple(wishes)
