"""A divided text-to-image pipeline draws what diffusers' own loop draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifacts import Checkpoint
from edgekit.core.errors import ExportError, SourceError
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context
from edgekit.parts.diffusion import Diffusion
from edgekit.sources.diffusers import Diffusers

PARTS = Diffusion(steps=3, guidance=2.0)
PROMPT = {"input_ids": np.array([[1, 7, 9, 59, 0, 0, 0, 0]])}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Stable Diffusion of a few thousand weights, as its library saves it."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=8,
        bos_token_id=1, eos_token_id=59,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    folder = tmp_path_factory.mktemp("pipeline")
    parts: dict[str, Any] = {"text_encoder": CLIPTextModel(text), "unet": unet, "vae": vae, "scheduler": scheduler}
    StableDiffusionPipeline(
        **parts, tokenizer=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def checkpoint(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Diffusers(path=str(pipeline)).fetch(tmp_path_factory.mktemp("checkpoint"), Context(example={}))


@pytest.mark.parametrize("changes", [{}, {"prediction_type": "v_prediction", "clip_sample": True, "set_alpha_to_one": True}])
def test_pictures_are_those_of_the_librarys_own_loop(checkpoint: Checkpoint, assembled: Any, changes: dict[str, Any]) -> None:
    module = load_module(checkpoint)
    module.scheduler.update(changes)
    found = assembled(PARTS, module, PROMPT).run(PROMPT)["image"]
    wanted = PARTS.reference(module, PROMPT)["image"]
    assert found.shape == (1, 3, 16, 16)
    assert wanted.std() > 0.01
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_checkpoint_is_read_back_with_all_its_networks(checkpoint: Checkpoint) -> None:
    networks = {name.partition(".")[0] for name, _ in load_module(checkpoint).named_parameters()}
    assert networks == {"text_encoder", "unet", "vae"}
    assert Diffusers.recognises(str(checkpoint.path)) is False


def test_folders_of_another_kind_are_refused(pipeline: Path, tmp_path: Path) -> None:
    import torch

    assert Diffusers.recognises(str(pipeline))
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DModel"]}')
    with pytest.raises(SourceError, match="is no such pipeline"):
        Diffusers(path=str(tmp_path)).fetch(tmp_path / "out", Context(example={}))
    with pytest.raises(ExportError, match="no text-to-image pipeline"):
        PARTS.divide(torch.nn.Linear(2, 2), Context(example=PROMPT))
