"""CLIP's towers score pictures as the undivided model does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.core.errors import ExportError, RecipeError
from edgekit.core.plugin import Context
from edgekit.parts.two_towers import TwoTowers

if TYPE_CHECKING:
    import torch

PROMPTS = ((1, 7, 9, 59), (1, 8, 59), (1, 30, 31, 32, 33, 59))
PICTURE = {"pixel_values": np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)}


@pytest.fixture(scope="module")
def clip() -> torch.nn.Module:
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16}
    text = {**tower, "vocab_size": 60, "max_position_embeddings": 12, "eos_token_id": 59, "bos_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config={**tower, "image_size": 16, "patch_size": 8}, projection_dim=16)
    return CLIPModel(config).eval()


@pytest.mark.parametrize("static", [False, True])
def test_scores_are_those_of_the_undivided_model(clip: torch.nn.Module, assembled: Any, static: bool) -> None:
    parts = TwoTowers(prompts=PROMPTS)
    program = assembled(parts, clip, PICTURE, static=static)
    scores = program.run(PICTURE)["logits"]
    np.testing.assert_allclose(scores, parts.reference(clip, PICTURE)["logits"], rtol=1e-4, atol=1e-4)
    assert np.ptp(scores) > 0.1
    assert program.outputs[0].shape == (1, 3)


def test_other_models_and_sentences_without_a_tokenizer_are_refused(clip: torch.nn.Module, tmp_path: Path) -> None:
    import torch

    with pytest.raises(ExportError, match="has not the two towers"):
        TwoTowers(prompts=PROMPTS).divide(torch.nn.Linear(2, 2), Context(example=PICTURE))
    with pytest.raises(RecipeError, match="sentences with a tokenizer"):
        TwoTowers(prompts=("a cat", "a dog")).divide(clip, Context(example=PICTURE))
    with pytest.raises(RecipeError, match="holds no tokenizer"):
        TwoTowers(prompts=("a cat", "a dog"), tokenizer=str(tmp_path)).settings(clip)
