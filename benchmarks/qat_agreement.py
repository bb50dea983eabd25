"""Whether int8 files compute what quantization-aware training trained: ``python -m benchmarks.qat_agreement [NAME...]``.

A network is trained a little with the pass ``qat``, exported and quantized in every format; its outputs on the evaluation set are
compared with those of the rounded PyTorch network. Twice: as this CPU's int8 kernels compute, which without VNNI saturate, and with exact
sums. Writes ``benchmarks/results/qat_agreement.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.artifacts import Artifact, Checkpoint, Step
from edgekit.core.chatter import muted
from edgekit.core.machine import this_machine
from edgekit.core.modules import load_module, save_module
from edgekit.core.plugin import Context, Exporter, Host, Pass, Quantizer, RuntimeSettings, Task
from edgekit.core.quantization import Int8Scheme
from edgekit.core.recipe import load_recipe
from edgekit.core.registry import create
from edgekit.opening import open_data, open_source

HERE = Path(__file__).parent
OPTIONS = {"use": "qat", "training": {"epochs": 1, "batch": 32, "held_out": 0.1}}
FORMATS = {"onnx": ("onnxruntime", "uint8"), "openvino": ("openvino", "uint8"), "tflite": ("litert", "int8")}
WAYS = {"as this CPU computes": "f32", "with exact sums": "unsaturated"}
SAMPLES = 200


def main() -> None:
    """Train, quantize and compare the networks of some recipes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["digits", "resnet20"], help="recipes whose network and data are taken")
    names = parser.parse_args().names
    found = {name: agreement(name) for name in names}
    content = {
        "command": f"python -m benchmarks.qat_agreement {' '.join(names)}",
        "machine": this_machine().model_dump(mode="json"),
        "pass": OPTIONS,
        "samples": SAMPLES,
        "networks": found,
    }
    (HERE / "results" / "qat_agreement.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def agreement(name: str) -> dict[str, Any]:
    """Train the network of one recipe, quantize it in every format and compare."""
    from edgekit.passes._rounded import as_trained

    recipe = load_recipe(HERE / "recipes" / f"{name}.yaml")
    sets = open_data(recipe)
    data = sets.calibration
    assert data is not None
    assert sets.evaluation is not None
    task = create(Task, recipe.task, "task")
    context = Context(example=next(data.batches(1))[0], calibration=data, training=data, task=task)  # type: ignore[arg-type]
    batches = list(sets.evaluation.batches(1, limit=SAMPLES))
    inputs, labels = [batch for batch, _ in batches], np.array([each[0] for _, each in batches])
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        source = _folder(folder, "source")
        given = open_source(recipe.model, recipe.base).fetch(source, context)
        made, plan = trained(given, context, _folder(folder, "trained"))
        net = as_trained(load_module(made), plan, context)
        wanted = rounded_outputs(net, inputs)
        result: dict[str, Any] = {"top1 as trained": float((wanted.argmax(1) == labels).mean() * 100)}
        for format_, (runtime, activations) in FORMATS.items():
            scheme = Int8Scheme.model_validate({"activations": activations, "symmetric": False, "reduce_range": False})
            model = quantized(made, format_, replace(context, scheme=scheme), Path(folder))
            reference = wanted if format_ != "openvino" else rounded_outputs(net, inputs, ends=False)
            outputs = {way: computed(model, runtime, precision, inputs) for way, precision in WAYS.items()}
            result[runtime] = {
                way: {
                    "sqnr dB": round(float(10 * np.log10((reference**2).sum() / ((found - reference) ** 2).sum())), 1),
                    "same top1 %": float((found.argmax(1) == reference.argmax(1)).mean() * 100),
                    "top1 %": float((found.argmax(1) == labels).mean() * 100),
                }
                for way, found in outputs.items()
            }
    return result


def trained(given: Checkpoint, context: Context, out: Path) -> tuple[Checkpoint, Any]:
    """Run the pass; return the checkpoint and the plan as it ended."""
    work = create(Pass, OPTIONS, "passes")
    better = work.perform(load_module(given), work.plan(load_module(given), context), context)
    plan = json.loads(json.dumps(better.plan))
    steps = (*given.steps, Step("qat", plan))
    return save_module(better.module, out, source=given.source, description=given.description, steps=steps), plan


def quantized(made: Checkpoint, format_: str, context: Context, folder: Path) -> Artifact:
    """Export and quantize, full 8-bit weights."""
    model = create(Exporter, format_, "exporters").export(made, _folder(folder, f"{format_}-float"), context).noted(made.metadata)
    quantizer = create(Quantizer, {"use": f"{format_}_int8_static"}, "quantization")
    return quantizer.perform(model, quantizer.plan(model, context), _folder(folder, f"{format_}-int8"), context)


def rounded_outputs(net: Any, inputs: Sequence[dict[str, np.ndarray]], *, ends: bool = True) -> np.ndarray:
    """Outputs of the rounded network; NNCF leaves those of the model itself unrounded."""
    import torch

    net.rounders[net.points[-1].range].active = ends
    with torch.no_grad():
        return np.concatenate([net.graph(*(torch.from_numpy(value) for value in sample.values())).numpy() for sample in inputs])


def computed(model: Artifact, runtime: str, precision: str, inputs: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Outputs of the runtime."""
    with muted(native=True):
        session = create(Host, "in_process", "hosts").open(model.model, runtime, RuntimeSettings(precision=precision))
    with session:
        return np.concatenate([next(iter(session.run(sample).values())) for sample in inputs])


def _folder(parent: str | Path, name: str) -> Path:
    made = Path(parent) / name
    made.mkdir()
    return made


if __name__ == "__main__":
    main()
