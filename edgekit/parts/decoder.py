"""Language models with a key-value cache: a graph that reads a prompt, and one that reads a token after what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.artifacts import Batch
from edgekit.core.errors import ExportError
from edgekit.core.parts import Component, Parts, component_module
from edgekit.parts import _cache

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


class Decoder(Parts):
    """Divide a Transformers decoder into ``prefill`` and ``decode``; the loop that chooses tokens stays outside.

    ONNX and OpenVINO take prompts and caches of any length. TFLite takes prompts of ``read_at_once`` tokens (a shorter one is padded, of a
    longer one the rest is read token by token) and a cache of ``limit``.
    """

    program = "decoder"
    writes = True

    read_at_once: int = Field(128, ge=1, description="Tokens of a text that the prefill reads; what follows is read one by one.")
    limit: int | None = Field(None, ge=2, description="Tokens that the cache holds at most; the model's own limit where left out.")
    new_tokens: int = Field(64, ge=1, description="Tokens that a measured latency writes behind the prompt.")

    def divide(self, module: torch.nn.Module, context: Context) -> dict[str, Component]:
        """Return ``prefill`` and ``decode``.

        Raises:
            ExportError: no language model of Transformers, or one whose layers keep something else than keys and values.
        """
        import numpy as np
        import torch

        layers = _layers(module)
        names = _cache.names(layers)

        def prefill(input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
            cache = _cache.made(layers)
            mask = _cache.causal(input_ids.shape[1], module.dtype)
            result = module.forward(input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=True)
            return {"logits": result.logits, **_cache.added(cache)}

        def decode(input_ids: torch.Tensor, position: torch.Tensor, **kept: torch.Tensor) -> dict[str, torch.Tensor]:
            pairs = _cache.pairs(kept)
            cache = _cache.made(pairs, position[:1])
            mask = _cache.until(pairs[0][0].shape[1], position[:1], module.dtype)
            result = module.forward(input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=True)
            return {"logits": result.logits, **_cache.added(cache)}

        limit = self._limit(module)
        tokens = np.resize(np.asarray(context.example["input_ids"][:1], np.int64), (1, min(self.read_at_once, limit - 1)))
        first = component_module(module, ["input_ids"], prefill)
        try:
            with torch.inference_mode():
                read = first(torch.from_numpy(tokens))
        except (AttributeError, TypeError, IndexError) as problem:
            raise ExportError(f"{type(module).__name__} keeps no plain cache of keys and values ({problem})", hint=_HINT) from problem
        kept = {name: np.zeros((1, limit, *read[_cache.NEW + name].shape[2:]), np.float32) for name in names}
        for name, tensor in kept.items():
            tensor[:, : tokens.shape[1]] = read[_cache.NEW + name].numpy()
        step = {"input_ids": tokens[:, -1:], "position": np.array([tokens.shape[1]]), **kept}
        return {
            "prefill": Component(first, {"input_ids": tokens}, {"input_ids": {1: "sequence"}}),
            "decode": Component(component_module(module, list(step), decode), step, {name: {1: "places"} for name in names}),
        }

    def settings(self, module: torch.nn.Module) -> dict[str, Any]:
        """Return lengths, and the tokens that end a text."""
        lengths = {"read_at_once": self.read_at_once, "new_tokens": self.new_tokens, "limit": self._limit(module)}
        return {**lengths, "stop": _cache.stops(module)}

    def reference(self, module: torch.nn.Module, inputs: Batch) -> Batch:
        """Return the scores of one text, read at once without a cache; places of padding score zero."""
        import numpy as np
        import torch

        count = int(inputs["attention_mask"].sum())
        with torch.inference_mode():
            scores = module(input_ids=torch.from_numpy(inputs["input_ids"][:, :count].astype(np.int64))).logits.numpy()
        logits = np.zeros((1, inputs["input_ids"].shape[1], scores.shape[2]), scores.dtype)
        logits[:, :count] = scores
        return {"logits": logits}

    def prompt(self, inputs: Batch) -> Batch:
        """Return the text's first tokens, as many as are read at once."""
        count = min(self.read_at_once, int(inputs["attention_mask"].sum()))
        return {name: array[:, :count] for name, array in inputs.items()}

    def _limit(self, module: torch.nn.Module) -> int:
        own = int(getattr(module.config, "max_position_embeddings", 0) or self.limit or _LONG)
        return min(self.limit or own, own)


_HINT = "take a decoder of Transformers whose layers all attend to everything before (GPT-2, Llama, ...), or leave 'parts' out"
_LONG = 2048
"""Tokens for a model that sets no limit."""


def _layers(module: torch.nn.Module) -> int:
    config: Any = getattr(module, "config", None)
    layers = getattr(config, "num_hidden_layers", None)
    if layers is None or getattr(config, "is_encoder_decoder", False):
        raise ExportError(f"{type(module).__name__} is no decoder of Transformers", hint=_HINT)
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        raise ExportError(f"{type(module).__name__} attends to a sliding window, which a cache of all tokens does not", hint=_HINT)
    return int(layers)
