"""Makes the stories260K Llama a ``save_pretrained`` folder, with texts to calibrate and to judge on.

    python -m benchmarks.make_stories260k OUT

``OUT/texts.yaml`` describes ``OUT/texts.npz``: the five documents of ``tinystories_sample.txt`` judge; of stories that the model itself
tells, drawn token by token from a seed, 256 calibrate and another 1,024 train. A text is 512 tokens, padded behind where it is shorter;
there labels are -100.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.models.stories260k import BOS, Tokenizer, read_model
from edgekit.core.resources import data_root

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

LENGTH, PADDING, IGNORED = 512, 0, -100
STORIES = {"calibration": 256, "training": 1024}
"""How many are told; their order is their seed."""
SET = """schema: 1
title: TinyStories, five documents; told stories to calibrate and to train on
origin: {url: "https://github.com/stanford-cs336/assignment1-basics", licence: "MIT; TinyStories: CDLA-Sharing"}
read: {use: npz, path: texts.npz, inputs: {input_ids: evaluation, attention_mask: evaluation_mask}, labels: evaluation_labels}
splits:
  evaluation: {}
  calibration: {read: {inputs: {input_ids: calibration, attention_mask: calibration_mask}, labels: calibration_labels}}
  training: {read: {inputs: {input_ids: training, attention_mask: training_mask}, labels: training_labels}}
"""


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    make(data_root() / "text", parser.parse_args().out)


def make(source: Path, out: Path) -> None:
    """Write model and texts made of the files in ``source``."""
    model, tokenizer = read_model(source / "stories260K.bin"), Tokenizer.read(source / "tok512.bin")
    model.save_pretrained(out)
    documents = (source / "tinystories_sample.txt").read_text(encoding="utf-8").split("<|endoftext|>")
    judged = [tokenizer.encode(text.strip())[: LENGTH + 1] for text in documents if text.strip()]
    arrays = {}
    stories = {name: told(model, count, seed) for seed, (name, count) in enumerate(STORIES.items())}
    for name, texts in {"evaluation": judged, **stories}.items():
        arrays[name], arrays[f"{name}_mask"], arrays[f"{name}_labels"] = padded(texts)
    np.savez_compressed(out / "texts.npz", **arrays)
    (out / "texts.yaml").write_text(SET, encoding="utf-8")


def padded(texts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, mask and labels [N, 512] of token sequences."""
    inputs = np.full((len(texts), LENGTH), PADDING, np.int64)
    for row, text in enumerate(texts):
        inputs[row, : len(text)] = text[:LENGTH]
    mask = (np.arange(LENGTH) < np.array([[len(text)] for text in texts])).astype(np.int64)
    return inputs, mask, np.where(mask == 1, inputs, IGNORED)


def told(model: LlamaForCausalLM, count: int, seed: int) -> list[list[int]]:
    """Stories of 512 tokens that the model tells by itself from BOS, drawn at temperature 1."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((count, 1), BOS)
    cache = None
    with torch.inference_mode():
        while tokens.shape[1] < LENGTH:
            result = model(input_ids=tokens[:, -1:], past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            tokens = torch.cat([tokens, torch.multinomial(result.logits[:, -1].softmax(-1), 1, generator=generator)], dim=1)
    return [[int(token) for token in story] for story in tokens]


if __name__ == "__main__":
    main()
