"""Trains a small GPT-2 on the characters of tinyshakespeare, as a ``save_pretrained`` folder with texts to calibrate and to judge on.

    python -m benchmarks.train_gpt2 OUT

About five minutes on one core. The first nine tenths of the text train, the rest judges: 40 passages that don't overlap; 64 passages of
the training part calibrate. ``python -m benchmarks.run gpt2`` with ``EDGEKIT_GPT2=OUT`` then compresses it.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.resources import data_root

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

LENGTH, BATCH, STEPS, WARM_UP, RATE, SEED = 192, 8, 1500, 100, 2e-3, 0
JUDGED, CALIBRATED = 40, 64
SET = """schema: 1
title: tinyshakespeare, passages of characters
origin: {url: "https://github.com/karpathy/char-rnn", licence: public domain}
read: {use: npz, path: texts.npz, inputs: {input_ids: evaluation, attention_mask: evaluation_mask}, labels: evaluation}
splits:
  evaluation: {}
  calibration: {read: {inputs: {input_ids: calibration, attention_mask: calibration_mask}, labels: calibration}}
"""


def main() -> None:
    """Train and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    text = (data_root() / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    make(text, arguments.out, arguments.steps)


def make(text: str, out: Path, steps: int) -> None:
    """Train on a text and write model, characters and passages below ``out``."""
    characters = sorted(set(text))
    tokens = np.searchsorted(np.array(characters), np.array(list(text))).astype(np.int64)
    first = len(tokens) * 9 // 10
    model = trained(tokens[:first], len(characters), steps)
    model.save_pretrained(out)
    (out / "characters.json").write_text(json.dumps(characters), encoding="utf-8")
    judged = passages(tokens[first:], JUDGED, np.random.default_rng(SEED + 1))
    calibrated = passages(tokens[:first], CALIBRATED, np.random.default_rng(SEED + 2))
    arrays = {"evaluation": judged, "calibration": calibrated}
    np.savez_compressed(out / "texts.npz", **arrays, **{f"{name}_mask": np.ones_like(array) for name, array in arrays.items()})
    (out / "texts.yaml").write_text(SET, encoding="utf-8")


def passages(tokens: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Passages [count, LENGTH] that don't overlap."""
    pieces = tokens[: len(tokens) // LENGTH * LENGTH].reshape(-1, LENGTH)
    return pieces[np.sort(rng.permutation(len(pieces))[:count])]


def trained(tokens: np.ndarray, vocabulary: int, steps: int) -> GPT2LMHeadModel:
    """Train with AdamW, warm-up and a cosine to a tenth of the rate."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(SEED)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=LENGTH,
        n_embd=128,
        n_layer=4,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    rng = np.random.default_rng(SEED)
    known = torch.from_numpy(tokens)
    for step in range(steps):
        starts = rng.integers(0, len(tokens) - LENGTH, BATCH)
        batch = torch.stack([known[start : start + LENGTH] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def _rate(step: int, steps: int) -> float:
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


if __name__ == "__main__":
    main()
