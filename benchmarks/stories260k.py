"""Int4 weights on the stories260K Llama: perplexity after rounding, AWQ, GPTQ and training, and the text that each format then writes.

    python -m benchmarks.make_stories260k STORIES
    python -m benchmarks.stories260k STORIES

Weights of the decoder's matrix products are in groups of 32; the embedding, which is the last layer's matrix too, stays in float. The
passes calibrate, and train, on stories that the model itself tells; the five documents of ``tinystories_sample.txt`` judge. Every row
also says whether what the file stores is, bit for bit, what the pass made. Writes ``benchmarks/results/stories260k.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models.stories260k import Tokenizer
from benchmarks.unpacked import unpacked
from edgekit.core.artifacts import Artifact, Batch, Checkpoint, Step
from edgekit.core.datasets import DataSet
from edgekit.core.machine import this_machine
from edgekit.core.modules import load_module, save_improved
from edgekit.core.plugin import Context, Exporter, Pass, Quantizer, Source, Task
from edgekit.core.registry import create
from edgekit.core.resources import data_root
from edgekit.data import Role, check_disjoint, open_dataset
from edgekit.runner import load as open_model
from edgekit.sessions import NATIVE

RESULT = Path(__file__).parent / "results" / "stories260k.json"
FORMATS = ("onnx", "openvino", "tflite")
ROLES: tuple[Role, ...] = ("evaluation", "calibration", "training")
GPTQ = {"use": "gptq", "samples": 256, "damping": 0.0001}
TRAINED = {"use": "qat_int4", "training": {"epochs": 4}}
METHODS: dict[str, tuple[dict[str, Any], ...]] = {
    "rtn": (),
    "awq": ({"use": "awq", "samples": 256},),
    "gptq": (GPTQ,),
    "gptq+qat": (GPTQ, TRAINED),
}
"""The damping is the best of 0.01, 0.001, 0.0001 and 0.00001 on stories told for that alone, 32 to calibrate and 16 to judge."""
GROUP, PROMPT, NEW_TOKENS = 32, "Once upon a time", 56
LAST_LAYER = {"onnx": "lm_head*", "openvino": "lm_head*", "tflite": "FullyConnected"}
"""The matrix that is the embedding too; LiteRT's converter forgets which module it belongs to."""
PACKAGES = ("torch", "transformers", "neural-compressor", "onnxruntime", "openvino", "ai-edge-litert")


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    context: Context
    task: Task
    evaluation: DataSet
    tokenizer: Tokenizer
    checkpoint: Checkpoint
    folder: Path


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stories", type=Path, help="what benchmarks.make_stories260k wrote")
    with tempfile.TemporaryDirectory() as folder:
        bench = opened(parser.parse_args().stories, Path(folder))
        rows = list(measured(bench))
    content = {
        "command": "python -m benchmarks.stories260k STORIES",
        "machine": this_machine().cpu,
        "libraries": {name: version(name) for name in PACKAGES},
        "protocol": f"5 documents, 1,804 predicted tokens, one thread; groups of {GROUP}; calibration: {bench.context.calibration.name}, "  # type: ignore[union-attr]
        f"{len(bench.context.calibration)} stories told by the model itself",  # type: ignore[arg-type]
        "rows": rows,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def opened(stories: Path, folder: Path) -> Bench:
    """Load model and texts; the texts that calibrate and those that judge share none."""
    evaluation, *told = (open_dataset(f"{stories}/texts.yaml", role=role, base=stories) for role in ROLES)
    for own in told:
        check_disjoint(own, evaluation)
    task = create(Task, "causal_lm", "task")
    context = Context(example=next(told[0].batches(1))[0], calibration=told[0], training=told[1], task=task)
    source = create(Source, {"use": "transformers", "path": str(stories), "auto_class": "AutoModelForCausalLM"}, "model")
    checkpoint = source.fetch(made(folder / "checkpoint"), context)
    context = replace(context, teacher=lambda: load_module(checkpoint))
    return Bench(context, task, evaluation, Tokenizer.read(data_root() / "text" / "tok512.bin"), checkpoint, folder)


def measured(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield one row a format, method and kind of grid; the float exports first."""
    floats = {}
    for name in FORMATS:
        model = exported(bench, bench.checkpoint, name, "float")
        yield told(floats.setdefault(name, row(bench, model, "float")))
    for symmetric in (True, False):
        grid = {"group": GROUP, "symmetric": symmetric}
        for method, wishes in METHODS.items():
            label = f"{method}-{'symmetric' if symmetric else 'asymmetric'}"
            checkpoint = bench.checkpoint
            for wish in wishes:
                checkpoint = improved(bench, checkpoint, {**wish, "grid": grid}, label)
            for name in FORMATS if symmetric else FORMATS[:2]:
                model = quantized(bench, exported(bench, checkpoint, name, label), grid, label)
                found = row(bench, model, label)
                found["perplexity_change_percent"] = round(100 * (found["perplexity"] / floats[name]["perplexity"] - 1), 2)
                if wishes:
                    found["stored_bit_for_bit"] = same_weights(model, checkpoint)
                yield told(found)


def improved(bench: Bench, checkpoint: Checkpoint, wish: dict[str, Any], label: str) -> Checkpoint:
    """Take the checkpoint through a pass."""
    work = create(Pass, wish, "passes")
    module = load_module(checkpoint)
    plan = json.loads(json.dumps(work.plan(module, bench.context)))
    better = work.perform(module, plan, bench.context)
    out = made(bench.folder / label / wish["use"])
    return save_improved(better.module, out, given=checkpoint, step=Step(wish["use"], plan))


def exported(bench: Bench, checkpoint: Checkpoint, name: str, label: str) -> Artifact:
    """Write a checkpoint in a format."""
    return create(Exporter, name, "formats").export(checkpoint, made(bench.folder / label / name), bench.context)


def quantized(bench: Bench, model: Artifact, grid: dict[str, Any], label: str) -> Artifact:
    """Store the decoder's weights in 4 bits."""
    quantizer = create(Quantizer, {"use": f"{model.format}_int4", "spec": {**grid, "exclude": [LAST_LAYER[model.format]]}}, "quantization")
    plan = quantizer.plan(model, bench.context)
    return quantizer.perform(model, plan, made(bench.folder / label / f"{model.format}-int4"), bench.context)


def row(bench: Bench, model: Artifact, label: str) -> dict[str, Any]:
    """Judge a model and let it write."""
    task = bench.task
    session = open_model(model.model, NATIVE[model.format], threads=1, precision="f32")
    pairs = [(session.run(inputs), labels) for inputs, labels in bench.evaluation.batches(1)]
    metrics = task.metrics(np.concatenate([task.observe(outputs, labels, outputs) for outputs, labels in pairs]))
    text = bench.tokenizer.decode(greedy(bench.tokenizer.encode(PROMPT), lambda inputs: next(iter(session.run(inputs).values()))))
    session.close()
    return {
        "method": label,
        "format": model.format,
        "precision": model.precision,
        "perplexity": round(metrics["perplexity"], 4),
        "likelihood": round(metrics["likelihood"], 3),
        "bytes": model.size,
        "text": text,
    }


def greedy(tokens: list[int], scores: Callable[[Batch], np.ndarray], length: int = 512) -> list[int]:
    """Append the likeliest next token again and again, with everything so far fed anew."""
    tokens = list(tokens)
    for _ in range(NEW_TOKENS):
        ids, mask = np.zeros((2, 1, length), np.int64)
        ids[0, : len(tokens)], mask[0, : len(tokens)] = tokens, 1
        tokens.append(int(scores({"input_ids": ids, "attention_mask": mask})[0, len(tokens) - 1].argmax()))
    return tokens


def same_weights(model: Artifact, checkpoint: Checkpoint) -> bool:
    """Whether each matrix that a file stores in 4 bits is the checkpoint's, bit for bit."""
    weights = dict(load_module(checkpoint).named_parameters())
    found = unpacked(model)
    return bool(found) and all(np.array_equal(value, weights[f"{layer_of(name)}.weight"].detach().numpy()) for name, value in found.items())


def layer_of(name: str) -> str:
    """The module of a layer; a file for several lengths has each module several times, numbered from the second on."""
    return re.sub(r"_\d+$", "", name.partition("/")[0])


def made(folder: Path) -> Path:
    """Make a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def told(found: dict[str, Any]) -> dict[str, Any]:
    """Print a row as it comes."""
    print({key: value for key, value in found.items() if key != "text"}, flush=True)
    return found


if __name__ == "__main__":
    main()
