"""Trains the two speech benchmarks on spoken digits: a digit classifier, and an ECAPA-TDNN speaker verifier.

    python -m benchmarks.train_speech digits OUT      about three minutes on one core
    python -m benchmarks.train_speech speakers OUT    about five

Writes ``OUT/digits.safetensors`` or ``OUT/speakers.safetensors``, with the protocol and the outcome beside it as JSON; point
``EDGEKIT_SPEECH`` at OUT for the recipes. Both train on the ``training`` split of their set (``calibration/spoken-digits*.yaml``) and are
judged on its ``evaluation`` split, which shares no recording with it.

Recordings are changed in every epoch: speed, loudness, place in time, noise. A voice at another speed is another voice (Yamamoto et al.
2019, "Speaker Augmentation and Bandwidth Extension for Deep Speaker Embedding"), so four voices make twenty. Speakers are told apart with
an additive angular margin (Deng et al. 2019, arXiv:1801.07698), and the part that does so is thrown away.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.models.ecapa_tdnn import EMBEDDING, ecapa_tdnn
from benchmarks.models.speech_cnn import speech_cnn
from edgekit.core.plugin import Reader, Task
from edgekit.core.registry import create
from edgekit.core.resources import bundled, expand
from edgekit.data import load_spec, open_dataset
from edgekit.data._shelf import open_shelf
from edgekit.data.audio import Audio, decode

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Protocol:
    """How one of the two is trained and judged."""

    data: str
    task: str
    epochs: int
    speeds: tuple[float, ...]
    speeds_are_voices: bool
    further: tuple[str, ...] = ()
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    batch_size: int = 64
    margin: float = 0.2
    scale: float = 30.0
    seed: int = 0
    threads: int = 1


PROTOCOLS = {
    "digits": Protocol("spoken-digits", "audio_classification", 25, (0.85, 0.93, 1.0, 1.08, 1.17), False),
    "speakers": Protocol("spoken-digits-speakers", "speaker_verification", 12, (0.8, 0.9, 1.0, 1.1, 1.2), True, ("unheard",)),
}


def main() -> None:
    """Train one, judge it and write it."""
    import torch
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=sorted(PROTOCOLS))
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    protocol = PROTOCOLS[given.which]
    torch.set_num_threads(protocol.threads)
    torch.manual_seed(protocol.seed)
    began = time.monotonic()
    network = speech_cnn() if given.which == "digits" else ecapa_tdnn()
    train(network, protocol)
    found = {split: judged(network, protocol, split) for split in ("evaluation", *protocol.further)}
    given.out.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), given.out / f"{given.which}.safetensors")
    record = {**asdict(protocol), "found": found}
    (given.out / f"{given.which}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{found}, {time.monotonic() - began:.0f} s")


def train(network: nn.Module, protocol: Protocol) -> None:
    """Train in place: AdamW, a warm-up of one epoch, then half a cosine to zero."""
    import torch

    reader, recordings, labels = training_set(protocol)
    random = np.random.default_rng(protocol.seed)
    classes = max(labels) + 1
    head = Margin(classes * len(protocol.speeds), protocol) if protocol.speeds_are_voices else None
    parameters = [*network.parameters(), *(head.parameters() if head else [])]
    optimizer = torch.optim.AdamW(parameters, lr=protocol.learning_rate, weight_decay=protocol.weight_decay)
    steps = -(-len(recordings) // protocol.batch_size)
    total = protocol.epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / steps) * 0.5 * (1 + np.cos(np.pi * step / total))
    )
    network.train()
    for epoch in range(protocol.epochs):
        losses = []
        for rows in np.array_split(random.permutation(len(recordings)), steps):
            speeds = random.integers(0, len(protocol.speeds), len(rows))
            inputs = np.stack([changed(recordings[i], protocol.speeds[s], reader, random) for i, s in zip(rows, speeds, strict=True)])
            wanted = torch.tensor([labels[i] for i in rows])
            outputs = network(torch.from_numpy(inputs))
            if head:
                loss = head(outputs, wanted * len(protocol.speeds) + torch.from_numpy(speeds))
            else:
                loss = torch.nn.functional.cross_entropy(outputs, wanted, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{protocol.epochs}: mean loss {np.mean(losses):.4f}", flush=True)
    network.eval()


def training_set(protocol: Protocol) -> tuple[Audio, list[np.ndarray], list[int]]:
    """The reader of the training split, its recordings as samples, and their classes."""
    path = bundled("calibration") / f"{protocol.data}.yaml"
    spec = load_spec(path)
    reader = create(Reader, spec.select("training").read, "read")
    assert isinstance(reader, Audio)
    archive = expand(reader.path, path.parent)
    shelf = open_shelf(archive)
    listed = reader._recordings(shelf, archive)
    recordings = [decode(shelf.read(one.name), one.name, reader.rate) for one in listed]
    return reader, recordings, [spec.classes.index(str(one.label)) for one in listed]


def changed(samples: np.ndarray, speed: float, reader: Audio, random: np.random.Generator) -> np.ndarray:
    """A recording as the network might meet it: at a speed, somewhere in time, louder or quieter, with noise."""
    length = round(len(samples) / speed)
    samples = np.interp(np.arange(length) * speed, np.arange(len(samples)), samples)
    samples = samples * 10 ** random.uniform(-0.5, 0.5)
    noise = 10 ** random.uniform(-3.0, -1.5) * np.abs(samples).max()
    if reader.fill == "repeat":
        samples = np.roll(samples, random.integers(0, len(samples)))
    else:
        room = max(0, round(reader.seconds * reader.rate) - len(samples))
        samples = np.concatenate([np.zeros(random.integers(0, max(1, room // 4))), samples])
    return reader.prepared(samples + noise * random.normal(size=len(samples)))


def Margin(classes: int, protocol: Protocol) -> Any:  # noqa: N802 - a class behind an import
    """Additive angular margin: the head that makes embeddings of one class lie close, needed for training alone."""
    import torch
    from torch.nn import functional

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.nn.init.xavier_uniform_(torch.empty(classes, EMBEDDING)))

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            cosine = functional.linear(functional.normalize(embeddings), functional.normalize(self.weight)).clamp(-1 + 1e-6, 1 - 1e-6)
            own = functional.one_hot(labels, classes).bool()
            narrowed = torch.where(own, torch.cos(torch.acos(cosine) + protocol.margin), cosine)
            return functional.cross_entropy(protocol.scale * narrowed, labels)

    return Head()


def judged(network: nn.Module, protocol: Protocol, split: str) -> dict[str, float]:
    """The task's metrics on a split."""
    import torch

    task = create(Task, protocol.task, "task")
    data = open_dataset(f"{protocol.data}:{split}", role="evaluation", base=Path())
    rows = []
    for inputs, labels in data.batches(64):
        with torch.inference_mode():
            outputs = {"output": network(torch.from_numpy(inputs["input"])).numpy()}
        rows.append(task.observe(outputs, labels, outputs))
    return {name: round(value, 3) for name, value in task.metrics(np.concatenate(rows)).items()}


if __name__ == "__main__":
    main()
