from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Context
from edgekit.passes._stack import find_stack, spread
from edgekit.passes.drop_layers import DropLayers

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
BART = {
    "vocab_size": 50,
    "d_model": 16,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
TOKENS = torch.arange(3, 17).reshape(2, 7)


def bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SMALL)).eval()


def reading(context: Context) -> Context:
    return replace(context, example={"input_ids": TOKENS.numpy()})


def test_what_is_left_is_what_one_would_assemble_by_hand(context: Context) -> None:
    model = bert()
    with torch.no_grad():
        hidden = model.bert.embeddings(TOKENS)
        for index in (0, 2, 5):
            hidden = model.bert.encoder.layer[index](hidden)
        wanted = model.classifier(model.bert.pooler(hidden))
        work = DropLayers(keep=3)
        plan = json.loads(json.dumps(work.plan(model, reading(context))))
        better = work.perform(model, plan, reading(context))
        found = better.module(TOKENS).logits
    assert plan == {"stack": "bert.encoder.layer", "keep": [0, 2, 5], "of": 6}
    assert torch.equal(found, wanted)
    assert better.notes == ("kept 3 of 6 layers of bert.encoder.layer: 0, 2, 5",)
    assert better.module.config.num_hidden_layers == 3


@pytest.mark.parametrize(("total", "keep"), [(12, (0, 2, 4, 7, 9, 11)), (6, (0, 2, 5)), (2, (0,)), (4, (0, 3))])
def test_half_of_the_layers_stay_as_in_distilbert(total: int, keep: tuple[int, ...]) -> None:
    assert spread(total // 2, total) == keep


def test_named_layers_stay(context: Context) -> None:
    assert DropLayers(keep=(1, 4)).plan(bert(), context)["keep"] == [1, 4]


@pytest.mark.parametrize("keep", [(), (2, 1), (1, 1), (0, 6), 7])
def test_layers_that_are_not_there_are_refused(keep: Any, context: Context) -> None:
    with pytest.raises(RecipeError, match="drop_layers: keep is"):
        DropLayers(keep=keep).plan(bert(), context)


def test_a_decoder_writes_the_same_with_and_without_a_cache() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(**SMALL, num_key_value_heads=2, use_sliding_window=True, sliding_window=4, max_window_layers=3)
    model = Qwen2ForCausalLM(config).eval()
    model.generation_config.pad_token_id = 0
    student = DropLayers.rebuild(model, {"stack": "model.layers", "keep": [0, 2, 5], "of": 6})
    assert student.config.layer_types == ["full_attention", "full_attention", "sliding_attention"]
    assert [layer.self_attn.layer_idx for layer in student.model.layers] == [0, 1, 2]
    written = [student.generate(TOKENS, max_new_tokens=6, do_sample=False, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*written)


def test_of_several_stacks_one_is_named(context: Context) -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    model = BartForConditionalGeneration(BartConfig(**BART)).eval()
    with pytest.raises(RecipeError, match=r"several lists of layers: model.encoder.layers, model.decoder.layers"):
        DropLayers().plan(model, context)
    plan = DropLayers(stack="model.decoder.layers").plan(model, context)
    student = DropLayers.rebuild(model, plan)
    assert (student.config.encoder_layers, student.config.decoder_layers) == (4, 2)
    assert len(student.model.decoder.layers) == 2
    assert torch.isfinite(student(input_ids=TOKENS, decoder_input_ids=TOKENS).logits).all()


def test_a_first_layer_with_weights_of_its_own_stays(context: Context) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=16, num_layers=4, num_heads=2, d_ff=32, d_kv=8))
    with pytest.raises(RecipeError, match=r"layer 0 of encoder.block has weights that the others need"):
        DropLayers(stack="encoder.block", keep=(1, 2)).plan(model, context)


def test_blocks_of_a_cnn_go_where_shapes_allow(context: Context) -> None:
    from torch import nn

    stage = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    network = nn.Sequential(stage, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    work = DropLayers(stack="0", keep=(0, 2))
    better = work.perform(network, work.plan(network, context), context)
    assert len(better.module.get_submodule("0")) == 2
    work = DropLayers(stack="0", keep=(1, 2))
    other = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)), nn.Flatten(), nn.Linear(16, 10))
    with pytest.raises(RecipeError, match="without the other layers, the model fails"):
        work.perform(other, {"stack": "0", "keep": [1, 2], "of": 3}, context)


def test_a_model_without_layers_of_one_kind_is_refused(student: torch.nn.Module, context: Context) -> None:
    with pytest.raises(RecipeError, match="no list of layers"):
        DropLayers().plan(student, context)
    with pytest.raises(RecipeError, match="no list of layers 'layer3'"):
        find_stack(bert(), "layer3")
