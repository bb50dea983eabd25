"""Encoder-decoders of Transformers (T5, BART, Marian, Whisper): a graph that reads the source, and one that writes a token."""

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

MASK, CROSS = "attention_mask", "cross_"


class EncoderDecoder(Parts):
    """Divide into ``encoder`` and ``decoder``; keys and values of the attention to the source are computed once, with the encoder.

    Texts are written greedily. Of the model's settings for generation those hold that say which token comes first or last and which
    never; beams, length penalties and bans on repetition don't.
    """

    program = "encoder_decoder"
    writes = True

    new_tokens: int = Field(64, ge=1, description="Tokens that are written at most.")
    start: tuple[int, ...] = Field((), description="Tokens behind the model's own start, in front of each text (Whisper: language, task).")

    def divide(self, module: torch.nn.Module, context: Context) -> dict[str, Component]:
        """Return ``encoder`` and ``decoder``.

        Raises:
            ExportError: no encoder-decoder of Transformers, or inputs of another kind than one source and its mask.
        """
        import numpy as np
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        layers, source = _layers(module), _source(module, context.example)
        own, cross = _cache.names(layers), _cache.names(layers, CROSS)
        config: Any = module.config

        def encode(**given: torch.Tensor) -> dict[str, torch.Tensor]:
            mask = {MASK: _cache.padding(given[MASK], module.dtype)} if MASK in given else {}
            main = {name: value for name, value in given.items() if name != MASK}
            reader: Any = module.get_encoder()  # type: ignore[operator]
            read = reader(**main, **mask).last_hidden_state
            kept = _cache.of_both(_cache.made(layers), _cache.made(layers), filled=False)
            # What the decoder makes of any token is thrown away, but for the keys and values of its attention to the source.
            token = torch.zeros(read.shape[0], 1, dtype=torch.long)
            outputs = BaseModelOutput(last_hidden_state=read)
            module.forward(encoder_outputs=outputs, decoder_input_ids=token, past_key_values=kept, use_cache=True, **mask)
            return _cache.added(kept.cross_attention_cache, CROSS)

        def decode(input_ids: torch.Tensor, position: torch.Tensor, **given: torch.Tensor) -> dict[str, torch.Tensor]:
            pairs, known = _cache.pairs(given), _cache.pairs(given, CROSS)
            kept = _cache.of_both(_cache.made(pairs, position[:1]), _cache.made(known), filled=True)
            mask = {MASK: _cache.padding(given[MASK], module.dtype)} if MASK in given else {}
            unread = known[0][0].new_zeros(input_ids.shape[0], known[0][0].shape[1], int(config.d_model))
            result = module.forward(
                encoder_outputs=BaseModelOutput(last_hidden_state=unread),
                decoder_input_ids=input_ids,
                decoder_attention_mask=_cache.until(pairs[0][0].shape[1], position[:1], module.dtype),
                past_key_values=kept,
                use_cache=True,
                **mask,
            )
            return {"logits": result.logits, **_cache.added(kept.self_attention_cache)}

        given = {name: np.ascontiguousarray(context.example[name][:1]) for name in source}
        encoder = component_module(module, source, encode)
        with torch.inference_mode():
            read = {name: value.numpy() for name, value in encoder(**{n: torch.from_numpy(a) for n, a in given.items()}).items()}
        heads = read[cross[0]].shape[2:]
        mask = {MASK: given[MASK]} if MASK in given else {}
        step = {
            "input_ids": np.array([[self._start(module)[-1]]]),
            "position": np.array([0]),
            **mask,
            **{name: np.zeros((1, self._limit(module), *heads), np.float32) for name in own},
            **{name: read[name] for name in cross},
        }
        long = {1: "source"}
        of_text = {name: long for name, array in given.items() if array.dtype.kind == "i"}
        varying = {name: {1: "places"} for name in own} | {name: long for name in (*mask, *cross) if of_text}
        return {
            "encoder": Component(encoder, given, of_text),
            "decoder": Component(component_module(module, list(step), decode), step, varying),
        }

    def settings(self, module: torch.nn.Module) -> dict[str, Any]:
        """Return the tokens that start and end texts, and the model's rules for others."""
        rules: Any = getattr(module, "generation_config", None)
        stops = _cache.stops(module)
        return {
            "start": self._start(module),
            "stop": stops,
            "pad": _pad(module),
            "new_tokens": self.new_tokens,
            "limit": self._limit(module),
            "forced": [getattr(rules, "forced_bos_token_id", None), getattr(rules, "forced_eos_token_id", None)],
            "suppressed": list(getattr(rules, "suppress_tokens", None) or ()),
            "suppressed_first": list(getattr(rules, "begin_suppress_tokens", None) or ()),
        }

    def reference(self, module: torch.nn.Module, inputs: Batch) -> Batch:
        """Return what Transformers' own loop writes, greedily."""
        import numpy as np
        import torch
        from transformers import GenerationConfig
        from transformers.generation import GenerationMixin

        settings = self.settings(module)
        rules = GenerationConfig(
            max_new_tokens=self.new_tokens,
            eos_token_id=settings["stop"] or None,
            pad_token_id=settings["pad"],
            decoder_start_token_id=settings["start"][0],
            forced_bos_token_id=settings["forced"][0],
            forced_eos_token_id=settings["forced"][1],
            suppress_tokens=settings["suppressed"] or None,
            begin_suppress_tokens=settings["suppressed_first"] or None,
        )
        start = torch.tensor([settings["start"]])
        given = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.inference_mode():
            result = GenerationMixin.generate(
                module, **given, decoder_input_ids=start, generation_config=rules, output_logits=True, return_dict_in_generate=True
            )
        written = result.sequences[0, start.shape[1] :]
        tokens, likelihood = np.full((1, self.new_tokens), settings["pad"], np.int64), np.zeros((1, self.new_tokens), np.float32)
        tokens[0, : len(written)] = written.numpy()
        for place, (row, token) in enumerate(zip(result.logits, written, strict=True)):
            likelihood[0, place] = float(row[0].log_softmax(-1)[token])
        return {"tokens": tokens, "log_likelihood": likelihood}

    def _start(self, module: torch.nn.Module) -> list[int]:
        for settings in (getattr(module, "generation_config", None), module.config):
            first = getattr(settings, "decoder_start_token_id", None)
            if first is not None:
                return [int(first), *self.start]
        raise ExportError(f"{type(module).__name__} does not say which token starts a text", hint="set decoder_start_token_id")

    def _limit(self, module: torch.nn.Module) -> int:
        return len(self._start(module)) + self.new_tokens


_HINT = "take an encoder-decoder of Transformers (T5, BART, Marian, Whisper)"


def _layers(module: torch.nn.Module) -> int:
    config: Any = getattr(module, "config", None)
    if not getattr(config, "is_encoder_decoder", False):
        raise ExportError(f"{type(module).__name__} is no encoder-decoder of Transformers", hint=_HINT)
    found = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None)
    if not found:
        raise ExportError(f"{type(module).__name__} does not say how many layers its decoder has", hint=_HINT)
    return int(found)


def _source(module: torch.nn.Module, example: Batch) -> list[str]:
    main = str(getattr(module, "main_input_name", "input_ids"))
    names = [name for name in (main, MASK) if name in example]
    if main not in example or len(names) != len(example):
        raise ExportError(f"{type(module).__name__} reads {main} and perhaps {MASK}, the data set gives {', '.join(example)}", hint=_HINT)
    return names


def _pad(module: torch.nn.Module) -> int:
    for settings in (getattr(module, "generation_config", None), module.config):
        found = getattr(settings, "pad_token_id", None)
        if found is not None:
            return int(found)
    return 0
