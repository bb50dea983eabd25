"""CLIP and its kin: a graph for pictures and one for sentences, for zero-shot classification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.artifacts import Batch
from edgekit.core.errors import ExportError, RecipeError
from edgekit.core.parts import Component, Parts, component_module
from edgekit.core.resources import expand

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


class TwoTowers(Parts):
    """Divide into ``image`` and ``text``; a picture's class is the one whose description is nearest.

    Reference: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision" (arXiv:2103.00020).
    """

    program = "two_towers"

    prompts: tuple[str | tuple[int, ...], ...] = Field(
        min_length=2, description="What describes each class, in the classes' order: sentences, or their token numbers."
    )
    tokenizer: str | None = Field(None, description="Folder of the tokenizer; needed for sentences.")

    def divide(self, module: torch.nn.Module, context: Context) -> dict[str, Component]:
        """Return ``image`` and ``text``.

        Raises:
            ExportError: no model of two towers.
            RecipeError: sentences without a tokenizer.
        """
        import numpy as np
        import torch

        model: Any = module
        if not all(hasattr(module, name) for name in _TOWERS):
            raise ExportError(f"{type(module).__name__} has not the two towers of CLIP", hint="it lacks one of: " + ", ".join(_TOWERS))

        def image(pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
            seen = model.visual_projection(model.vision_model(pixel_values=pixel_values).pooler_output)
            return {"embedding": torch.nn.functional.normalize(seen, dim=-1)}

        def text(input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
            read = model.text_projection(model.text_model(input_ids=input_ids).pooler_output)
            return {"embedding": torch.nn.functional.normalize(read, dim=-1)}

        prompts = self._tokens()
        longest = np.zeros((1, max(len(prompt) for prompt in prompts)), np.int64)
        first = max(prompts, key=len)
        longest[0, : len(first)] = first
        picture = {"pixel_values": np.ascontiguousarray(context.example["pixel_values"][:1])}
        return {
            "image": Component(component_module(module, ["pixel_values"], image), picture),
            "text": Component(component_module(module, ["input_ids"], text), {"input_ids": longest}, {"input_ids": {1: "sequence"}}),
        }

    def settings(self, module: torch.nn.Module) -> dict[str, Any]:
        """Return the descriptions' tokens, and the scale of the scores."""
        model: Any = module
        return {"prompts": self._tokens(), "scale": float(model.logit_scale.detach().exp())}

    def reference(self, module: torch.nn.Module, inputs: Batch) -> Batch:
        """Return the model's scores of a picture for each description."""
        import torch

        model: Any = module
        pixels = torch.from_numpy(inputs["pixel_values"])
        with torch.inference_mode():
            scores = [model(input_ids=torch.tensor([prompt]), pixel_values=pixels).logits_per_image for prompt in self._tokens()]
        return {"logits": torch.cat(scores, dim=1).numpy()}

    def _tokens(self) -> list[list[int]]:
        told = [prompt for prompt in self.prompts if isinstance(prompt, str)]
        if not told:
            return [list(prompt) for prompt in self.prompts if not isinstance(prompt, str)]
        if len(told) != len(self.prompts) or self.tokenizer is None:
            raise RecipeError("prompts are either token numbers or sentences with a tokenizer", hint="add 'tokenizer: FOLDER' to 'parts'")
        from transformers import AutoTokenizer

        folder = expand(self.tokenizer, Path())
        try:
            loaded = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as problem:
            raise RecipeError(f"{folder}: holds no tokenizer", hint="tokenizer.save_pretrained(FOLDER) writes one") from problem
        return [[int(token) for token in loaded(prompt)["input_ids"]] for prompt in told]


_TOWERS = ("vision_model", "text_model", "visual_projection", "text_projection", "logit_scale")
