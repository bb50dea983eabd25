"""The model families of the support table: real checkpoints where the data pack has one, small random configurations elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SAMPLES = 24
"""Random samples: the first two thirds calibrate, the others judge."""
TRANSFORMER = {"onnx": "int8-dynamic", "openvino": "int8-static", "tflite": "int8-dynamic"}
FEW = {"calibration": 16, "evaluation": 5}
"""Samples of whole texts."""
CONVOLUTIONAL = dict.fromkeys(TRANSFORMER, "int8-static")


@dataclass(frozen=True)
class Family:
    """One line of the support table.

    Attributes:
        name: the family.
        int8: which int8 is usual, by format.
        inputs: shape and largest integer (0 for normal numbers, -1 for ones) of each input of one sample; random families only.
        make: writes the checkpoint below a folder and returns a recipe's ``model``; random families only.
        recipe: recipe of ``benchmarks/recipes`` with a real checkpoint and a metric.
        needs: environment variables without which the recipe has no checkpoint.
        parts: how the model is divided into graphs that run in turn, as in a recipe; random families only.
        limits: samples to take of the recipe's splits.
    """

    name: str
    int8: Mapping[str, str]
    inputs: Mapping[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    make: Callable[[Path], dict[str, Any]] | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    needs: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=lambda: {"calibration": 64, "evaluation": 200})


def transformer(kind: str, config: str, auto: str = "", attention: str = "", **options: Any) -> Callable[[Path], dict[str, Any]]:
    """Save a seeded random model of transformers; ``auto`` is the class to load it with where its own does not serve."""

    def make(folder: Path) -> dict[str, Any]:
        import torch
        import transformers

        torch.manual_seed(0)
        settings = getattr(transformers, config)(**{k: v() if callable(v) else v for k, v in options.items()})
        getattr(transformers, kind)(settings).eval().save_pretrained(folder)
        return {"path": str(folder), "auto_class": auto or kind, **({"attention": attention} if attention else {})}

    return make


def network(file: str, factory: str, **arguments: Any) -> Callable[[Path], dict[str, Any]]:
    """Save a seeded random network of ``benchmarks/models``."""

    def make(folder: Path) -> dict[str, Any]:
        import torch

        from edgekit.core.factories import find_function

        torch.manual_seed(0)
        arch = f"{HERE / 'models' / file}:{factory}"
        torch.save(find_function(arch)(**arguments).state_dict(), folder / "weights.pth")
        return {"path": str(folder / "weights.pth"), "arch": arch, "arguments": arguments}

    return make


def pipeline(folder: Path) -> dict[str, Any]:
    """Save a seeded random text-to-image pipeline of diffusers."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(0)
    blocks: dict[str, Any] = {"block_out_channels": (16, 32), "norm_num_groups": 8}
    text = transformers.CLIPTextConfig(projection_dim=32, max_position_embeddings=16, eos_token_id=499, pad_token_id=0, **ENCODER)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, layers_per_block=1, cross_attention_dim=64, attention_head_dim=8, **blocks,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **blocks
    )
    networks: dict[str, Any] = {"text_encoder": transformers.CLIPTextModel(text), "unet": unet, "vae": vae}
    absent = dict.fromkeys(("tokenizer", "safety_checker", "feature_extractor"))
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)
    diffusers.StableDiffusionPipeline(**networks, scheduler=scheduler, requires_safety_checker=False, **absent).save_pretrained(folder)
    return {"path": str(folder)}


def samples(family: Family) -> dict[str, np.ndarray]:
    """Seeded random inputs of a family, by name."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, (shape, largest) in family.inputs.items():
        size = (SAMPLES, *shape)
        if largest > 0:
            arrays[name] = rng.integers(1, largest, size)
        else:
            arrays[name] = np.ones(size, np.int64) if largest else rng.normal(size=size).astype(np.float32)
    return arrays


def backbone() -> Any:
    """A small ResNet for DETR."""
    import transformers

    return transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", out_features=["stage2"])


ENCODER = {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
BODY = {key: value for key, value in ENCODER.items() if key != "vocab_size"}
TEXT = {"input_ids": ((32,), 500), "attention_mask": ((32,), -1)}
PAIRED = {**TEXT, "decoder_input_ids": ((16,), 500)}
IMAGE = {"pixel_values": ((3, 64, 64), 0)}
SEQ2SEQ = {
    "vocab_size": 500, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128, "decoder_ffn_dim": 128,
}  # fmt: skip
SEQ2SEQ_BODY = {key: value for key, value in SEQ2SEQ.items() if key != "vocab_size"}

FAMILIES = (
    Family("ResNet-20 (CIFAR-10)", CONVOLUTIONAL, recipe="resnet20"),
    Family("DS-CNN (keywords)", CONVOLUTIONAL, recipe="kws"),
    Family("BERT", TRANSFORMER, TEXT, transformer("BertForSequenceClassification", "BertConfig", **ENCODER)),
    Family(
        "DistilBERT", TRANSFORMER, TEXT,
        transformer("DistilBertForSequenceClassification", "DistilBertConfig", dim=64, n_layers=2, n_heads=4, hidden_dim=128),
    ),
    Family("ELECTRA", TRANSFORMER, TEXT, transformer("ElectraForTokenClassification", "ElectraConfig", embedding_size=64, **ENCODER)),
    Family("RoBERTa", TRANSFORMER, TEXT, transformer("RobertaForSequenceClassification", "RobertaConfig", pad_token_id=0, **ENCODER)),
    Family("BioBERT (BERT for entities)", TRANSFORMER, TEXT, transformer("BertForTokenClassification", "BertConfig", **ENCODER)),
    Family(
        "T5", TRANSFORMER, PAIRED,
        transformer(
            "T5ForConditionalGeneration", "T5Config", attention="eager", vocab_size=500, d_model=64, d_kv=16, d_ff=128, num_layers=2,
            num_heads=4, decoder_start_token_id=0,
        ),
    ),
    Family("BART", TRANSFORMER, PAIRED, transformer("BartForConditionalGeneration", "BartConfig", max_position_embeddings=64, **SEQ2SEQ)),
    Family(
        "ViT", TRANSFORMER, IMAGE,
        transformer("ViTForImageClassification", "ViTConfig", image_size=64, patch_size=16, **BODY),
    ),
    Family(
        "SegFormer", TRANSFORMER, IMAGE,
        transformer(
            "SegformerForSemanticSegmentation", "SegformerConfig", hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=64, num_labels=4,
        ),
    ),
    Family(
        "DETR", TRANSFORMER, IMAGE,
        transformer(
            "DetrForObjectDetection", "DetrConfig", use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
            backbone_config=backbone, num_queries=10, num_labels=4, **SEQ2SEQ_BODY,
        ),
    ),
    Family(
        "YOLOS", TRANSFORMER, IMAGE,
        transformer(
            "YolosForObjectDetection", "YolosConfig", image_size=[64, 64], patch_size=16, num_detection_tokens=10, num_labels=4,
            **BODY,
        ),
    ),
    Family("YOLO-like detector", CONVOLUTIONAL, {"image": ((3, 96, 96), 0)}, network("small_networks.py", "YoloLike")),
    Family("UNet", CONVOLUTIONAL, {"image": ((3, 64, 64), 0)}, network("small_networks.py", "UNet")),
    Family(
        "Whisper", TRANSFORMER, {"input_features": ((16, 64), 0), "decoder_input_ids": ((16,), 500)},
        transformer(
            "WhisperForConditionalGeneration", "WhisperConfig", num_mel_bins=16, max_source_positions=32, max_target_positions=32,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, **SEQ2SEQ,
        ),
    ),
    Family(
        "wav2vec2", TRANSFORMER, {"input_values": ((3200,), 0)},
        transformer(
            "Wav2Vec2ForCTC", "Wav2Vec2Config", conv_dim=[32] * 4, conv_stride=[5, 4, 4, 2], conv_kernel=[10, 8, 4, 2],
            num_feat_extract_layers=4, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, **{**ENCODER, "vocab_size": 32},
        ),
    ),
    Family(
        "GPT-2, writing with a cache", TRANSFORMER, TEXT,
        transformer("GPT2LMHeadModel", "GPT2Config", vocab_size=500, n_positions=64, n_embd=64, n_layer=2, n_head=4),
        parts={"use": "decoder", "read_at_once": 16},
    ),
    Family(
        "Llama, writing with a cache", TRANSFORMER, TEXT,
        transformer("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=2, max_position_embeddings=64, **ENCODER),
        parts={"use": "decoder", "read_at_once": 16},
    ),
    Family(
        "T5, writing with a cache", TRANSFORMER, TEXT,
        transformer(
            "T5ForConditionalGeneration", "T5Config", attention="eager", vocab_size=500, d_model=64, d_kv=16, d_ff=128, num_layers=2,
            num_heads=4, decoder_start_token_id=0, tie_word_embeddings=False,
        ),
        parts={"use": "encoder_decoder", "new_tokens": 16},
    ),
    Family(
        "BART, writing with a cache", TRANSFORMER, TEXT,
        transformer("BartForConditionalGeneration", "BartConfig", max_position_embeddings=64, init_std=0.3, **SEQ2SEQ),
        parts={"use": "encoder_decoder", "new_tokens": 16},
    ),
    Family(
        "Whisper, writing with a cache", TRANSFORMER, {"input_features": ((16, 64), 0)},
        transformer(
            "WhisperForConditionalGeneration", "WhisperConfig", num_mel_bins=16, max_source_positions=32, max_target_positions=32,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, init_std=0.3, begin_suppress_tokens=[2], **SEQ2SEQ,
        ),
        parts={"use": "encoder_decoder", "new_tokens": 16},
    ),
    Family(
        "CLIP, pictures by sentences", TRANSFORMER, IMAGE,
        transformer(
            "CLIPModel", "CLIPConfig", projection_dim=32,
            text_config={**ENCODER, "projection_dim": 32, "eos_token_id": 499, "max_position_embeddings": 16},
            vision_config={**BODY, "image_size": 64, "patch_size": 16, "projection_dim": 32},
        ),
        parts={"use": "two_towers", "prompts": [[1, 7, 9, 499], [1, 8, 499], [1, 30, 31, 32, 499], [1, 44, 45, 499]]},
    ),
    Family(
        "Stable Diffusion", TRANSFORMER, {"input_ids": ((16,), 500)}, pipeline, parts={"use": "diffusion", "steps": 4, "guidance": 3.0}
    ),
    Family("ECAPA-TDNN", CONVOLUTIONAL, {"features": ((40, 100), 0)}, network("small_networks.py", "EcapaTdnn")),
    Family("MobileNetV1 x0.25 (ImageNet)", CONVOLUTIONAL, recipe="mobilenet_v1"),
    Family("Llama (stories260K)", TRANSFORMER, recipe="stories260k", needs=("EDGEKIT_STORIES",), limits=FEW),
    Family("MiniLM (SST-2)", TRANSFORMER, recipe="minilm_sst2", needs=("EDGEKIT_MINILM",)),
    Family("MobileNetV2 (ImageNet)", CONVOLUTIONAL, recipe="mobilenet_v2"),
)  # fmt: skip
