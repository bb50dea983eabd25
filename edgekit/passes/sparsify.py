"""Sparsity: sets weights to zero, anywhere or N of every M neighbours, and keeps them there while the network recovers.

Zeros make a file smaller once it is compressed. Whether they make it faster is up to the runtime: few have kernels that skip them, so
this pass measures it where it can and says what it found.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from edgekit.algorithms import importance
from edgekit.core.errors import RecipeError, closest
from edgekit.core.plugin import Improvement, Pass
from edgekit.core.recipe import PluginWish
from edgekit.passes._engine import Training, train
from edgekit.passes._objectives import Lesson, from_labels, from_teacher, loaded, task_of
from edgekit.passes._statistics import input_power, samples_of

if TYPE_CHECKING:
    import torch

    from edgekit.core.bench import Bench
    from edgekit.core.plugin import Context

_GAINS = 1.05
"""Times faster from which a runtime counts as gaining; less is within what two races differ by."""


class Sparsify(Pass):
    """Set the least important weights to zero.

    References: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks" (arXiv:1506.02626) for magnitude;
    Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models" (arXiv:2306.11695) for Wanda; Mishra et al. 2021,
    "Accelerating Sparse Deep Neural Networks" (arXiv:2104.08378) for N of M.
    """

    trains = True
    requires = {"accelerate": "accelerate"}

    share: float | None = Field(None, gt=0, lt=1, description="Share of the weights that become zero, anywhere.")
    pattern: str | None = Field(None, pattern=r"^[1-9]\d?:[1-9]\d?$", description="N:M, such as 2:4: of every M neighbours N stay.")
    importance: Literal["magnitude", "wanda"] = Field("magnitude", description="wanda weighs by what the weights are multiplied with.")
    samples: int = Field(256, ge=1, description="Training samples that Wanda looks at.")
    protect: tuple[str, ...] = Field((), description="Layers that stay dense; names or glob patterns.")
    recover: Training | None = Field(Training(), description="Training with the zeros held; null leaves it out.")
    teacher: PluginWish | None = Field("original", description="'original', an earlier pass by name, any model; null recovers on labels.")
    lesson: Lesson = Lesson()
    measure: bool = Field(True, description="Measure whether the target's runtime gains, where it can be measured here.")

    @model_validator(mode="after")
    def _says_what_goes(self) -> Self:
        if (self.share is None) == (self.pattern is None):
            raise ValueError("give either a share (0.5) or a pattern (2:4)")
        if self.pattern is not None and self.kept_of[0] >= self.kept_of[1]:
            raise ValueError(f"pattern {self.pattern}: fewer must stay than there are")
        return self

    @property
    def kept_of(self) -> tuple[int, int]:
        """N and M of the pattern."""
        n, m = (self.pattern or "1:1").split(":")
        return int(n), int(m)

    @property
    def taught_by(self) -> PluginWish | None:
        """The teacher of the recovery."""
        return self.teacher if self.recover else None

    @property
    def times(self) -> bool:
        """Whether it is measured what the zeros gain."""
        return self.measure

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Decide which layers become sparse, and how many of their weights are zero.

        Raises:
            RecipeError: a pattern protects nothing, or no layer can be made sparse.
        """
        layers = self._layers(module)
        return {
            "layers": {name: self._zeros(weight) for name, weight in layers.items()},
            "dense": sorted(set(_weights(module)) - set(layers)),
            "pattern": self.pattern,
            "importance": self.importance,
            "recover": self.recover.model_dump(mode="json") if self.recover else None,
            "lesson": self.lesson.model_dump(mode="json"),
        }

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Set the zeros, and train with them held.

        Raises:
            RecipeError: no samples for Wanda; no training set or teacher for the recovery.
        """
        dense = copy.deepcopy(module) if context.bench else None
        masks = self._masks(module, plan, context)

        def hold() -> None:
            apply_masks(module, masks)

        hold()
        histories = []
        if plan["recover"] is not None:
            task = task_of(context)
            objective = from_teacher(task, loaded(context.teacher), Lesson(**plan["lesson"])) if context.teacher else from_labels(task)
            histories.append(train(module, objective, Training(**plan["recover"]), context, after_step=hold, name="recovery"))
            hold()
        record = {**_counted(module, masks), "recoveries": [history.record() for history in histories]}
        gain = _gained(dense, module, context.bench, context) if dense is not None and context.bench else None
        if gain:
            record["latency"] = gain
        notes = (_share_note(record, plan), _gain_note(gain), *(f"recovery: {history.note()}" for history in histories))
        return Improvement(module.eval(), record, notes)

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Zeros change no structure."""
        return module

    def _layers(self, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Weights [O, I] of the layers that become sparse."""
        known = _weights(module)
        for pattern in self.protect:
            if not any(fnmatch(name, pattern) for name in known):
                raise RecipeError(f"protect: {pattern!r} matches no layer", hint=closest(pattern, known))
        m = self.kept_of[1]
        found = {
            name: weight
            for name, weight in known.items()
            if not any(fnmatch(name, pattern) for pattern in self.protect) and weight.shape[1] % m == 0
        }
        if not found:
            reason = f"no layer that is not protected has a multiple of {m} inputs" if self.pattern else "every layer is protected"
            raise RecipeError(f"nothing can be made sparse: {reason}", hint="protect less, or give a share instead of a pattern")
        return found

    def _zeros(self, weight: torch.Tensor) -> int:
        if self.pattern is not None:
            n, m = self.kept_of
            return weight.numel() * (m - n) // m
        share = self.share or 0.0
        return round(weight.shape[1] * share) * weight.shape[0] if self.importance == "wanda" else round(weight.numel() * share)

    def _masks(self, module: torch.nn.Module, plan: Any, context: Context) -> dict[str, torch.Tensor]:
        """Mask of each layer's weight [O, I], False where it becomes zero."""
        weights = {name: weight for name, weight in _weights(module).items() if name in plan["layers"]}
        if self.importance == "wanda":
            power = input_power(module, list(weights), samples_of(context), self.samples)
            norms = {name: _spread(module.get_submodule(name), value.sqrt()) for name, value in power.items()}
            scores = {name: importance.wanda(weights[name].double(), norm) for name, norm in norms.items()}
        else:
            scores = {name: weight.abs() for name, weight in weights.items()}
        if self.pattern is not None:
            return {name: importance.n_of_m(score, *self.kept_of) for name, score in scores.items()}
        pick = importance.smallest_out_of_rows if self.importance == "wanda" else importance.smallest_out
        return {name: pick(score, self.share or 0.0) for name, score in scores.items()}


def apply_masks(module: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Set to zero what the masks [O, I] leave out."""
    import torch

    with torch.no_grad():
        for name, mask in masks.items():
            weight: Any = module.get_submodule(name).weight
            weight.mul_(_as_stored(mask, weight).to(weight.device))


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights of convolutions and linear layers as matrices [O, I], input channels last, as one dot product adds them up."""
    import torch

    found = {}
    for name, part in module.named_modules():
        layer = isinstance(part, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d))
        if layer and isinstance(part.weight, torch.nn.Parameter):  # else computed from others, as weight norm does
            found[name] = part.weight.detach().movedim(1, -1).reshape(part.weight.shape[0], -1)
    return found


def _as_stored(matrix: torch.Tensor, weight: Any) -> torch.Tensor:
    """Bring a matrix [O, I] back to a weight's own shape."""
    shape = (weight.shape[0], *weight.shape[2:], weight.shape[1])
    return matrix.reshape(shape).movedim(-1, 1)


def _spread(layer: Any, norms: torch.Tensor) -> torch.Tensor:
    """One norm for each input of a matrix [O, I]: a convolution reads each channel at every place of its kernel."""
    inputs = layer.weight.shape[1]
    kernel = layer.weight[0, 0].numel()
    if getattr(layer, "groups", 1) > 1:  # [groups * inputs] -> [O, inputs], each output reads its own group's channels
        norms = norms.reshape(layer.groups, inputs).repeat_interleave(layer.weight.shape[0] // layer.groups, dim=0)
        return norms.repeat(1, kernel)
    return norms.repeat(kernel)


def _counted(module: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Zeros that are really there, by layer and in all."""
    layers = {name: float((weight == 0).double().mean()) for name, weight in _weights(module).items() if name in masks}
    total = sum(parameter.numel() for parameter in module.parameters())
    zeros = sum(int((parameter == 0).sum()) for parameter in module.parameters())
    return {"zeros": zeros, "parameters": total, "share": round(zeros / total, 6), "layers": {n: round(s, 6) for n, s in layers.items()}}


def _gained(dense: torch.nn.Module, sparse: torch.nn.Module, bench: Bench, context: Context) -> dict[str, Any]:
    before, after = bench.race([dense.eval(), sparse.eval()], context.example)
    return {"runtime": bench.circumstances["runtime"], "dense_ms": round(before, 6), "sparse_ms": round(after, 6)}


def _share_note(record: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    form = plan["pattern"] or "unstructured"
    return f"{record['share']:.1%} of all parameters are zero ({form}, by {plan['importance']}, {len(plan['layers'])} layers)"


def _gain_note(gain: Mapping[str, Any] | None) -> str:
    if gain is None:
        return "whether the runtime gains from the zeros was not measured; few have kernels that do"
    ratio = gain["dense_ms"] / gain["sparse_ms"]
    said = "gains from" if ratio >= _GAINS else "gains nothing from"
    return f"{gain['runtime']} {said} the zeros: {gain['dense_ms']:.3f} ms dense, {gain['sparse_ms']:.3f} ms sparse ({ratio:.2f}x)"
