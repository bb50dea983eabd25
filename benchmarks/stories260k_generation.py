"""The stories260K Llama with a key-value cache: what it writes in each format and precision, how fast, and its perplexity.

    python -m benchmarks.make_stories260k STORIES
    python -m benchmarks.stories260k_generation STORIES --models FOLDER

A prefill graph reads the prompt, a decode graph the tokens after it, the loop that chooses tokens is edgekit's runner. Weights of int4
are in groups of 32 on the grids that rounding finds (``rtn``) or, with ``--gptq``, on those that GPTQ found before export; the last
layer, which is the embedding too, stays in float there. Perplexity is that of the five documents of ``tinystories_sample.txt``, of which
the first 256 tokens are read at once and the rest one by one. Writes ``benchmarks/results/stories260k_generation.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stories260k import GPTQ, PROMPT, Bench, improved, made, opened
from edgekit import assembly
from edgekit.core.artifacts import ARTIFACT, Artifact, Checkpoint
from edgekit.core.machine import this_machine
from edgekit.core.parts import Parts
from edgekit.core.plugin import Exporter, Quantizer, RuntimeSettings, Task
from edgekit.core.progress import Silent
from edgekit.core.registry import create
from edgekit.core.target import host_target
from edgekit.evaluation import generation
from edgekit.evaluation.latency import Contestant
from edgekit.sessions import NATIVE, host_of, open_session

RESULT = Path(__file__).parent / "results" / "stories260k_generation.json"
FORMATS = ("onnx", "openvino", "tflite")
PARTS = {"use": "decoder", "read_at_once": 256, "new_tokens": 64}
GRID = {"group": 32, "symmetric": True}
LAST_LAYER = {"onnx": "lm_head*", "openvino": "lm_head*", "tflite": "*FullyConnected"}
PRECISIONS: dict[str, dict[str, dict[str, Any]]] = {
    "int8": {name: {} for name in FORMATS},
    "int4": {name: {**GRID, "exclude": [LAST_LAYER[name]]} for name in FORMATS},
}
QUANTIZERS = {"int8": "{}_int8_dynamic", "int4": "{}_int4"}
ROUNDS = 7
PACKAGES = ("torch", "transformers", "neural-compressor", "onnxruntime", "openvino", "ai-edge-litert", "ai-edge-quantizer", "nncf")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stories", type=Path, help="what benchmarks.make_stories260k wrote")
    parser.add_argument("--models", type=Path, required=True, help="folder for the models; those that lie there are not made again")
    parser.add_argument("--gptq", action="store_true", help="int4 also on the grids that GPTQ finds, which takes some minutes")
    parser.add_argument("--no-speed", action="store_true", help="only make the models and judge what they write")
    parser.add_argument("--only-speed", action="store_true", help="keep the stored texts and perplexities; for a machine that is quiet")
    arguments = parser.parse_args()
    bench = opened(arguments.stories, arguments.models)
    models = dict(variants(bench, with_gptq=arguments.gptq))
    stored = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() else []
    rows = stored if arguments.only_speed else judged(bench, models)
    speeds = {} if arguments.no_speed else timed(bench, models)
    content = {
        "command": "python -m benchmarks.stories260k_generation STORIES --models FOLDER",
        "machine": this_machine().cpu,
        "libraries": {name: version(name) for name in PACKAGES},
        "protocol": f"one thread, fresh processes, {ROUNDS} interleaved rounds of {PARTS['new_tokens']} greedy tokens behind a prompt, "
        "medians; perplexity of 5 documents, 1,804 predicted tokens",
        "rows": [{**row, **speeds.get(row["model"], {})} for row in rows],
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def variants(bench: Bench, *, with_gptq: bool) -> Iterator[tuple[str, Artifact]]:
    """Yield each format in float, in int8, and in int4 after rounding and, if wanted, after GPTQ; the original in PyTorch first."""

    @cache
    def gptq() -> Checkpoint:
        return improved(bench, bench.checkpoint, {**GPTQ, "grid": GRID}, "gptq")

    def given() -> Checkpoint:
        return bench.checkpoint

    yield "torch fp32", exported(bench, "torch", "float", given)
    for name in FORMATS:
        model = exported(bench, name, "float", given)
        yield f"{name} fp32", model
        yield f"{name} int8", quantized(bench, model, "int8", "int8")
        yield f"{name} int4 rtn", quantized(bench, model, "int4", "rtn")
        if with_gptq:
            yield f"{name} int4 gptq", quantized(bench, exported(bench, name, "gptq", gptq), "int4", "gptq")


def exported(bench: Bench, name: str, label: str, checkpoint: Callable[[], Checkpoint]) -> Artifact:
    """Write both graphs in a format."""
    parts, exporter = create(Parts, PARTS, "parts"), create(Exporter, name, "formats")
    return kept(bench.folder / label / name, lambda out: assembly.export(checkpoint(), parts, exporter, out, bench.context))


def quantized(bench: Bench, model: Artifact, precision: str, label: str) -> Artifact:
    """Change both graphs' precision as the target that is this machine wants it."""
    wish = {"use": QUANTIZERS[precision].format(model.format), "spec": PRECISIONS[precision][model.format]}
    scheme = next(backend.int8 for backend in host_target().backends if backend.format == model.format)
    quantizer = create(Quantizer, wish, "quantization")
    return kept(
        bench.folder / label / f"{model.format}-{precision}",
        lambda out: assembly.quantize(model, quantizer, out, replace(bench.context, scheme=scheme)),
    )


def kept(folder: Path, make: Callable[[Path], Artifact]) -> Artifact:
    """Make a model, unless it lies there from an earlier run."""
    return Artifact.load(folder) if (folder / ARTIFACT).is_file() else make(made(folder))


def judged(bench: Bench, models: dict[str, Artifact]) -> list[dict[str, Any]]:
    """Text and perplexity of each."""
    task = create(Task, "causal_lm", "task")
    prompt = bench.tokenizer.encode(PROMPT)
    rows = []
    for name, model in models.items():
        with open_session(model.model, NATIVE[model.format], RuntimeSettings(), fresh=False) as session:
            pairs = [(session.run(inputs), labels) for inputs, labels in bench.evaluation.batches(1)]
            written = session.generate({"input_ids": np.array([prompt])}, new_tokens=56)["tokens"][0].tolist()
        metrics = task.metrics(np.concatenate([task.observe(outputs, labels, outputs) for outputs, labels in pairs]))
        row = {
            "model": name,
            "precision": model.precision,
            "perplexity": round(metrics["perplexity"], 4),
            "bytes": model.size,
            "text": bench.tokenizer.decode([*prompt, *written]),
        }
        rows.append({**row, "same_text_as_torch": row["text"] == (rows[0]["text"] if rows else row["text"])})
        print({key: value for key, value in row.items() if key != "text"}, flush=True)
    return rows


def timed(bench: Bench, models: dict[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Time to the first token and tokens a second of each."""
    field = [
        Contestant(name, model.model, NATIVE[model.format], RuntimeSettings(), host_of(NATIVE[model.format], fresh=True))
        for name, model in models.items()
    ]
    prompt = {"input_ids": np.array([bench.tokenizer.encode(PROMPT)])}
    writings = generation.race(field, prompt, ROUNDS, Silent())
    found = {}
    for name, writing in writings.items():
        speed = generation.summarise(writing, writings["torch fp32"])
        rate = speed.tokens_per_second
        found[name] = {
            "prompt_tokens": speed.prompt,
            "first_token_ms": round(speed.first_token_ms.value, 3),
            "tokens_per_second": round(rate.value, 1) if rate else None,
            "tokens_per_second_95": [round(rate.low, 1), round(rate.high, 1)] if rate else None,
            "same_tokens_percent": round(speed.same_tokens, 1),
        }
        print(name, found[name], flush=True)
    return found


if __name__ == "__main__":
    main()
