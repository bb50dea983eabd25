"""A divided encoder-decoder writes what Transformers writes, token for token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.core.errors import ExportError
from edgekit.core.plugin import Context
from edgekit.parts.encoder_decoder import EncoderDecoder

if TYPE_CHECKING:
    import torch

RNG = np.random.default_rng(0)
TEXT = {"input_ids": RNG.integers(3, 60, (1, 11)), "attention_mask": np.array([[1] * 8 + [0] * 3])}
SOUND = {"input_features": RNG.normal(size=(1, 16, 100)).astype(np.float32)}
FAMILIES = ("t5", "bart", "whisper")
PARTS = EncoderDecoder(new_tokens=16)


def made(family: str) -> torch.nn.Module:
    """A randomly initialised model, seeded; large weights, so that no two tokens are about as likely."""
    import torch
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        T5Config,
        T5ForConditionalGeneration,
        WhisperConfig,
        WhisperForConditionalGeneration,
    )

    torch.manual_seed(1)
    sides = {
        f"{side}_{word}": size for side in ("encoder", "decoder") for word, size in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 64))
    }
    common = {"vocab_size": 60, "d_model": 32, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1}
    if family == "t5":
        module = T5ForConditionalGeneration(
            T5Config(**common, d_kv=8, d_ff=64, num_layers=2, num_heads=4, initializer_factor=1.0, tie_word_embeddings=False)
        )
        module.set_attn_implementation("eager")
    elif family == "bart":
        module = BartForConditionalGeneration(
            BartConfig(**common, **sides, max_position_embeddings=40, init_std=0.4, forced_eos_token_id=2)
        )
        module.generation_config.forced_bos_token_id = 9
    else:
        lengths = {"max_source_positions": 50, "max_target_positions": 30}
        module = WhisperForConditionalGeneration(WhisperConfig(**common, **sides, **lengths, num_mel_bins=16, init_std=0.4))
        module.generation_config.suppress_tokens = [40, 41]
        module.generation_config.begin_suppress_tokens = [2, 5]
    return module.eval()


def source(family: str) -> dict[str, np.ndarray]:
    return SOUND if family == "whisper" else TEXT


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_and_their_likelihoods_are_those_of_transformers(family: str, assembled: Any) -> None:
    module, given = made(family), source(family)
    wanted = PARTS.reference(module, given)
    for static in (False, True):
        found = assembled(PARTS, module, given, static=static).run(given)
        np.testing.assert_array_equal(found["tokens"], wanted["tokens"])
        np.testing.assert_allclose(found["log_likelihood"], wanted["log_likelihood"], rtol=1e-4, atol=1e-4)


def test_the_models_rules_for_first_last_and_barred_tokens_hold(assembled: Any) -> None:
    tokens = assembled(PARTS, made("bart"), TEXT).run(TEXT)["tokens"][0]
    assert (tokens[0], tokens[-1]) == (9, 2)
    heard = assembled(PARTS, made("whisper"), SOUND).run(SOUND)["tokens"][0]
    assert not {40, 41} & set(heard.tolist())


def test_tokens_in_front_of_each_text_come_before_what_is_written(assembled: Any) -> None:
    parts, module = EncoderDecoder(new_tokens=8, start=(7, 30)), made("whisper")
    found = assembled(parts, module, SOUND).run(SOUND)
    np.testing.assert_array_equal(found["tokens"], parts.reference(module, SOUND)["tokens"])
    assert (found["tokens"] != assembled(EncoderDecoder(new_tokens=8), module, SOUND).run(SOUND)["tokens"]).any()


def test_shorter_sources_are_padded_where_lengths_are_fixed(assembled: Any) -> None:
    module, short = made("t5"), {name: array[:, :6] for name, array in TEXT.items()}
    found = assembled(PARTS, module, TEXT, static=True).run(short)
    np.testing.assert_array_equal(found["tokens"], PARTS.reference(module, short)["tokens"])


def test_models_and_inputs_of_another_kind_are_refused() -> None:
    import torch

    with pytest.raises(ExportError, match="no encoder-decoder"):
        PARTS.divide(torch.nn.Linear(2, 2), Context(example=TEXT))
    with pytest.raises(ExportError, match=r"reads input_ids and perhaps attention_mask, the data set gives .*token_type_ids"):
        PARTS.divide(made("t5"), Context(example={**TEXT, "token_type_ids": TEXT["input_ids"]}))
