"""Structured pruning: takes out the channels, attention heads and blocks that a network misses least for what they cost.

What goes is decided on copies; the plan lists it layer by layer, and the network is rebuilt from that list alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from edgekit.core.plugin import Improvement, Pass
from edgekit.core.recipe import PluginWish
from edgekit.core.workplace import remembered
from edgekit.passes._engine import Training, train
from edgekit.passes._objectives import Lesson, from_labels, from_teacher, loaded, task_of
from edgekit.passes.prune.decision import Aim, How, decide
from edgekit.passes.prune.surgery import Cut, perform_cut

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


class Prune(Pass):
    """Prune structurally, in one or several steps, and let the network recover after each.

    References: Fang et al. 2023, "DepGraph: Towards Any Structural Pruning" (arXiv:2301.12900) for what has to go together; Shen et al.
    2022, "Structural Pruning via Latency-Saliency Knapsack" (arXiv:2210.06659) for choosing by what it saves.
    """

    trains = True
    requires = {"torch_pruning": "torch-pruning", "accelerate": "accelerate"}

    macs: float | None = Field(None, gt=0, lt=1, description="Aim: share of the multiplications that is kept.")
    parameters: float | None = Field(None, gt=0, lt=1, description="Aim: share of the parameters that is kept.")
    speedup: float | None = Field(None, gt=1, le=100, description="Aim: times faster in the target's runtime, measured there.")
    how: How = How()
    steps: int = Field(1, ge=1, le=100, description="Prune so many times, a part of the way each, with recovery between.")
    recover: Training | None = Field(Training(), description="Training after each step; null leaves it to a later pass.")
    teacher: PluginWish | None = Field("original", description="'original', an earlier pass by name, any model; null recovers on labels.")
    lesson: Lesson = Lesson()

    @model_validator(mode="after")
    def _has_one_aim(self) -> Self:
        given = [name for name in ("macs", "parameters", "speedup") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one aim, macs, parameters or speedup; {' and '.join(given) or 'none'} given")
        if self.steps > 1 and self.recover is None:
            raise ValueError("several steps need 'recover' between them")
        return self

    @property
    def taught_by(self) -> PluginWish | None:
        """The teacher of the recovery."""
        return self.teacher if self.recover else None

    @property
    def times(self) -> bool:
        """Whether the aim is a latency."""
        return self.speedup is not None

    @property
    def aim(self) -> Aim:
        """What is to be reached."""
        if self.speedup is not None:
            return Aim("speedup", self.speedup)
        return Aim("macs", self.macs) if self.macs is not None else Aim("parameters", self.parameters or 0.0)

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Decide the first step, and say how many there will be.

        Raises:
            RecipeError: the aim can't be reached or measured, a pattern protects nothing, or the scores need data that is not there.
        """
        first = decide(module, module, self.aim.part(1, self.steps), self.how, context)
        return {
            "aim": asdict(self.aim),
            "how": self.how.model_dump(mode="json"),
            "steps": self.steps,
            "recover": self.recover.model_dump(mode="json") if self.recover else None,
            "lesson": self.lesson.model_dump(mode="json"),
            "decisions": [first.record()],
        }

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Prune and recover, step by step; each further step is decided on the recovered network.

        Raises:
            RecipeError: as :meth:`plan`; no training set or teacher for the recovery.
        """
        whole = copy.deepcopy(module) if plan["steps"] > 1 else None
        decisions = list(plan["decisions"])
        histories = []
        for step in range(plan["steps"]):
            if step == len(decisions):
                decisions.append(self._decided(step, module, whole, plan, context))
            perform_cut(module, Cut.of(decisions[step]["cut"]))
            if plan["recover"] is not None:
                history = self._recovered(module, plan, context, f"recovery-{step}")
                histories.append(history)
        record = {"recoveries": [history.record() for history in histories]}
        notes = (_note(plan, decisions), *(f"recovery: {history.note()}" for history in histories))
        return Improvement(module.eval(), record, notes, {**plan, "decisions": decisions})

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Take out what was taken out."""
        for decision in plan["decisions"]:
            perform_cut(module, Cut.of(decision["cut"]))
        return module

    def _recovered(self, module: torch.nn.Module, plan: Any, context: Context, name: str) -> Any:
        task = task_of(context)
        taught = context.teacher is not None
        objective = from_teacher(task, loaded(context.teacher), Lesson(**plan["lesson"])) if taught else from_labels(task)
        return train(module, objective, Training(**plan["recover"]), context, name=name)

    def _decided(self, step: int, module: torch.nn.Module, whole: torch.nn.Module | None, plan: Any, context: Context) -> Any:
        """Decide a further step; what a killed run decided stands, since a latency does not come out the same again."""
        file = context.scratch / f"decision-{step}.json" if context.scratch else None
        aim, how = Aim(**plan["aim"]).part(step + 1, plan["steps"]), How(**plan["how"])
        return remembered(file, lambda: decide(module, whole or module, aim, how, context).record())


def _note(plan: Any, decisions: Sequence[Any]) -> str:
    """One line for the report."""
    first, last = decisions[0], decisions[-1]
    shares = [f"{last['costs'][kind]['after'] / first['costs'][kind]['before']:.0%} of its {kind}" for kind in ("macs", "parameters")]
    blocks = sum(len(decision["cut"]["bypassed"]) for decision in decisions)
    parts = [f"keeps {' and '.join(shares)}"] + ([f"{blocks} blocks went"] if blocks else [])
    if last["latency"]:
        end = last["latency"]["chosen"]
        predicted, measured = (end["whole_ms"] / end[key] for key in ("predicted_ms", "measured_ms"))
        parts.append(
            f"{measured:.2f}x faster in {last['latency']['runtime']} when it was measured, {predicted:.2f}x by the table, "
            f"{plan['aim']['value']:g}x wanted"
        )
    return "; ".join(parts)
