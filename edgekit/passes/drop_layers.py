"""A student with fewer layers: the teacher's own, some of them left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from edgekit.core.errors import ExportError, RecipeError
from edgekit.core.modules import outputs_of
from edgekit.core.plugin import Improvement, Pass
from edgekit.passes._stack import configuration, find_stack, spread

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context

PLACES = {"layer_idx", "layer_id"}
"""What Transformers' modules call their place in a cache."""
Index = Annotated[int, Field(ge=0)]


class DropLayers(Pass):
    """Keep some of a transformer's layers with their weights; train afterwards, with distil for instance.

    By default half of the layers stay, spread evenly from the first to the last: of twelve 0, 2, 4, 7, 9, 11, which is how DistilBERT
    starts.

    Reference: Sanh et al. 2019, "DistilBERT, a distilled version of BERT" (arXiv:1910.01108), section 3.
    """

    keep: Annotated[int, Field(ge=1)] | tuple[Index, ...] | None = Field(
        None, description="How many layers stay, spread evenly from the first to the last; or which, counted from 0. Half by default."
    )
    stack: str | None = Field(None, description="Name of the list of layers in the model; needed only where there are several.")

    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Choose the layers that stay.

        Raises:
            RecipeError: no list of layers, several, or layers that the model does not have.
        """
        stack = find_stack(module, self.stack)
        total = len(stack.layers)
        keep = self.keep if isinstance(self.keep, tuple) else spread(min(self.keep or max(1, total // 2), total), total)
        if not keep or list(keep) != sorted(set(keep)) or keep[-1] >= total:
            raise RecipeError(
                f"drop_layers: keep is {list(keep)}, the layers of {stack.name} are 0 to {total - 1}",
                hint="name layers that exist, each once and in ascending order",
            )
        if isinstance(self.keep, int) and self.keep > total:
            raise RecipeError(f"drop_layers: keep is {self.keep}, {stack.name} has {total} layers", hint=f"keep at most {total}")
        if _parts(stack.layers[keep[0]]) != _parts(stack.layers[0]):
            raise RecipeError(f"drop_layers: layer 0 of {stack.name} has weights that the others need", hint="keep layer 0")
        return {"stack": stack.name, "keep": list(keep), "of": total}

    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Leave the other layers out.

        Raises:
            RecipeError: what is left does not run.
        """
        student = self.rebuild(module, plan).eval()
        try:
            outputs_of(student, [context.example])
        except ExportError as problem:
            raise RecipeError(f"without the other layers, {problem.message}", hint="keep the layers that change shapes") from problem
        kept = ", ".join(map(str, plan["keep"]))
        return Improvement(student, notes=(f"kept {len(plan['keep'])} of {plan['of']} layers of {plan['stack']}: {kept}",))

    @classmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Leave layers out, and let the model know: its configuration, and each layer its place in a cache."""
        old = module.get_submodule(plan["stack"])
        layers = list(old.children())
        kept = [layers[index] for index in plan["keep"]]
        parent, _, name = plan["stack"].rpartition(".")
        setattr(module.get_submodule(parent), name, type(old)(kept) if _is_list(old) else type(old)(*kept))
        for place, layer in enumerate(kept):
            for part in layer.modules():
                for name in PLACES & vars(part).keys():
                    setattr(part, name, place)
        _correct(configuration(module), plan)
        return module


def _correct(config: Any | None, plan: Any) -> None:
    """Let a configuration state the layers that are left, in its number of layers and in its lists with an entry for each layer."""
    if config is None:
        return
    total, keep = plan["of"], plan["keep"]
    if not config.is_encoder_decoder:
        counters: tuple[str, ...] = ("num_hidden_layers",)
    elif "decoder" in plan["stack"]:
        counters = ("decoder_layers", "num_decoder_layers")
    else:
        counters = ("encoder_layers", "num_layers", "num_hidden_layers")
    for counter in counters:
        if getattr(config, counter, None) == total:
            setattr(config, counter, len(keep))
    for name, value in vars(config).items():
        if "layer" in name and isinstance(value, list) and len(value) == total:
            setattr(config, name, [value[index] for index in keep])


def _parts(layer: torch.nn.Module) -> set[str]:
    return {name for name, _ in layer.named_parameters()}


def _is_list(layers: torch.nn.Module) -> bool:
    import torch

    return isinstance(layers, torch.nn.ModuleList)
