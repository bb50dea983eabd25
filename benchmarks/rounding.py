"""What adaptive rounding keeps of the accuracy with 4-bit weights: ``python -m benchmarks.rounding``.

Compares weights rounded to nearest with what the passes of a recipe make of them, one scale a channel, in the float model and in the int4
file of each format. Writes ``benchmarks/results/rounding_NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "litert"}


def main() -> None:
    """Measure and write the figures of one recipe."""
    from edgekit.core.plugin import Context, Pass
    from edgekit.core.recipe import load_recipe
    from edgekit.core.registry import create
    from edgekit.opening import open_data, open_source

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="resnet20_int4", help="recipe whose passes round")
    name = parser.parse_args().name
    recipe = load_recipe(HERE / "recipes" / f"{name}.yaml")
    sets = open_data(recipe)
    context = Context(example=next(sets.calibration.batches(1))[0], calibration=sets.calibration, seed=recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = open_source(recipe.model, recipe.base).fetch(made(Path(folder), "float"), context)
        plain = accuracies(checkpoint, context, sets.evaluation, Path(folder))
        began = time.monotonic()
        for index, wish in enumerate(recipe.passes):
            checkpoint = improved(checkpoint, create(Pass, wish, "passes"), context, made(Path(folder), f"pass{index}"))
        seconds = round(time.monotonic() - began)
        rounded = accuracies(checkpoint, context, sets.evaluation, Path(folder))
    content = {
        "command": f"python -m benchmarks.rounding {name}",
        "samples": len(sets.evaluation),
        "metric": "top1, percent",
        "passes": list(recipe.passes),
        "seconds of the passes": seconds,
        "as it came": plain,
        "after the passes": rounded,
    }
    (HERE / "results" / f"rounding_{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=1))


def made(folder: Path, name: str) -> Path:
    """Make a folder."""
    (folder / name).mkdir()
    return folder / name


def improved(checkpoint: Any, work: Any, context: Any, out: Path) -> Any:
    """Run one pass."""
    from edgekit.core.artifacts import Step
    from edgekit.core.modules import load_module, save_improved
    from edgekit.core.registry import name_of

    plan = json.loads(json.dumps(work.plan(load_module(checkpoint), context)))
    better = work.perform(load_module(checkpoint), plan, context)
    return save_improved(better.module, out, given=checkpoint, step=Step(name_of(work), plan))


def accuracies(checkpoint: Any, context: Any, evaluation: Any, folder: Path) -> dict[str, float]:
    """Accuracy of the float model and of each format's int4 file."""
    from edgekit.core.modules import load_module, outputs_of
    from edgekit.core.plugin import Exporter, Quantizer
    from edgekit.core.registry import create
    from edgekit.runner import load

    batches = [(inputs, labels[0]) for inputs, labels in evaluation.batches(1)]
    labels = [label for _, label in batches]
    module = load_module(checkpoint)

    def right(outputs: list[dict[str, np.ndarray]]) -> float:
        found = [int(next(iter(output.values())).argmax()) for output in outputs]
        return round(100 * float(np.mean([a == b for a, b in zip(found, labels, strict=True)])), 2)

    figures = {"float model": right([output for _, output in outputs_of(module, [inputs for inputs, _ in batches])])}
    for name, runtime in RUNTIMES.items():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            model = create(Exporter, name, "exporters").export(checkpoint, made(Path(place), "export"), context)
            quantizer = create(Quantizer, f"{name}_int4", "quantization")
            found = quantizer.perform(model, quantizer.plan(model, context), made(Path(place), "int4"), context)
            session = load(found.model, runtime)
            figures[f"{name} int4"] = right([session.run(inputs) for inputs, _ in batches])
    return figures


if __name__ == "__main__":
    main()
