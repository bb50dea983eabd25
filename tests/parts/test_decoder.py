"""A divided decoder writes what Transformers writes, token for token, with caches of any length."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.core.errors import ExportError
from edgekit.core.plugin import Context, Exporter
from edgekit.core.registry import create
from edgekit.parts.decoder import Decoder
from edgekit.runner import load as open_model
from edgekit.sessions import NATIVE

if TYPE_CHECKING:
    import torch

PROMPT = np.array([[1, 5, 17, 3, 40, 8, 9]])
TEXT = {"input_ids": np.pad(PROMPT, ((0, 0), (0, 3))), "attention_mask": np.pad(np.ones_like(PROMPT), ((0, 0), (0, 3)))}


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_greedy_text_is_that_of_transformers(family: str, static: bool, decoders: dict[str, torch.nn.Module], assembled: Any) -> None:
    import torch

    module = decoders[family]
    program = assembled(Decoder(read_at_once=5), module, TEXT, static=static)
    written = program.generate({"input_ids": PROMPT}, {"new_tokens": 30})["tokens"]
    wanted = module.generate(torch.from_numpy(PROMPT), max_new_tokens=30, do_sample=False, use_cache=True, pad_token_id=0)
    assert written.tolist() == wanted[:, PROMPT.shape[1] :].tolist()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_scores_are_those_of_the_undivided_model(family: str, decoders: dict[str, torch.nn.Module], assembled: Any) -> None:
    parts = Decoder(read_at_once=4)
    found = assembled(parts, decoders[family], TEXT).run(TEXT)["logits"]
    wanted = parts.reference(decoders[family], TEXT)["logits"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert np.abs(wanted[:, :7]).max() > 1


def test_components_keep_the_names_of_layers_and_the_models_limit(decoders: dict[str, torch.nn.Module]) -> None:
    module = decoders["gpt2"]
    parts = Decoder(limit=4096).divide(module, Context(example=TEXT))
    assert dict(parts["decode"].module.named_modules()).keys() >= {"transformer.h.0.attn.c_attn", "lm_head"}
    assert parts["decode"].example["key_1"].shape == (1, 40, 4, 8), "the model's limit, not more"
    assert Decoder(limit=16).settings(module) == {"read_at_once": 128, "new_tokens": 64, "limit": 16, "stop": [2]}


def test_models_of_another_kind_are_refused() -> None:
    import torch
    from transformers import MistralConfig, MistralForCausalLM, T5Config, T5ForConditionalGeneration

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    sliding = MistralForCausalLM(MistralConfig(vocab_size=50, sliding_window=4, **small))
    seq2seq = T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    for module, said in ((sliding, "sliding window"), (seq2seq, "no decoder"), (torch.nn.Linear(2, 2), "no decoder")):
        with pytest.raises(ExportError, match=said) as caught:
            Decoder().divide(module.eval(), Context(example=TEXT))
        assert caught.value.hint


def test_graphs_take_caches_of_any_length_where_the_format_can(decoders: dict[str, torch.nn.Module], tmp_path: Path) -> None:
    part = Decoder(read_at_once=20).divide(decoders["gpt2"], Context(example=TEXT))["decode"]
    made = create(Exporter, "openvino", "exporter").write(part.module, tmp_path, Context(example=part.example, dynamic=part.dynamic))
    assert [spec.name for spec in made.inputs] == ["input_ids", "position", "key_0", "value_0", "key_1", "value_1"]
    session = open_model(made.model, NATIVE["openvino"])
    shorter = {name: array[:, :30] if name in part.dynamic else array for name, array in part.example.items()}
    whole, some = (session.run(given)["logits"] for given in (part.example, shorter))
    np.testing.assert_allclose(whole, some, atol=1e-5)
