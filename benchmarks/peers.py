"""Edgekit's int8 beside what the bare libraries make of the same export with their defaults, in every format.

``python -m benchmarks.peers [NAME...]`` converts each recipe's network once, quantizes it with ONNX Runtime's quantizer, NNCF and the
LiteRT quantizer as their manuals show it and as edgekit's recipe says, judges both on the evaluation samples, and races float, the
libraries' int8 and edgekit's against each other. Writes ``benchmarks/results/peers.json``; results of networks not named are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.accuracy_aware import figures

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgekit.candidates import Candidate
    from edgekit.core.artifacts import Artifact, Batch, Checkpoint
    from edgekit.core.recipe import Recipe
    from edgekit.core.report import ModelResult
    from edgekit.results import Entrant
    from edgekit.stages import Stages

HERE = Path(__file__).parent
RESULT = HERE / "results" / "peers.json"
NAMES = ("resnet20", "resnet56", "mobilenet_v1", "mobilenet_v2", "vww", "kws", "minilm_sst2")
SAMPLES = 300


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help=f"recipes: {', '.join(NAMES)}")
    content = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    for name in parser.parse_args().names:
        content |= {"command": "python -m benchmarks.peers", **circumstances(), name: compared(name)}
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(content[name], indent=1))


def circumstances() -> dict[str, Any]:
    """The machine and the libraries."""
    from edgekit.core.machine import this_machine
    from edgekit.results import LIBRARIES
    from edgekit.sessions import versions

    return {"machine": this_machine().model_dump(mode="json"), "libraries": versions(LIBRARIES)}


def compared(name: str) -> dict[str, Any]:
    """By runtime: float, the library's int8 and edgekit's, with accuracy, latency and how much faster than the library edgekit is."""
    from edgekit.candidates import plan_candidates
    from edgekit.core.plugin import Task
    from edgekit.core.progress import Silent
    from edgekit.core.recipe import load_recipe
    from edgekit.core.registry import create
    from edgekit.core.store import Store
    from edgekit.opening import open_data, open_source, open_targets
    from edgekit.results import measure
    from edgekit.stages import Stages

    recipe = load_recipe(HERE / "recipes" / f"{name}.yaml").model_copy(update={"precisions": ("int8",)})
    sets, task = open_data(recipe), create(Task, recipe.task, "task")
    stages = Stages(recipe, Store(), Silent(), sets, task)
    stages.disjoint()
    checkpoint = stages.checkpoint(open_source(recipe.model, recipe.base))
    samples = [inputs for inputs, _ in sets.calibration.batches(1, limit=SAMPLES)]  # type: ignore[union-attr]
    found = {}
    for candidate in plan_candidates(recipe, open_targets(recipe)[:1], task, measurable=[True]):
        if candidate.quantizer is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            field = contestants(stages, checkpoint, candidate, recipe, samples, Path(folder))
            results = measure(stages, field, task=task, evaluation=sets.evaluation, measuring=recipe.measure, seed=recipe.seed)
        models = {result.id: figures(result) for result in results}
        found[candidate.backend.runtime] = {**models, "speed of edgekit's, the library's = 1": against_library(results)}
    return found


def against_library(results: list[ModelResult]) -> list[float]:
    """How much faster edgekit's model is than the library's in the same rounds, with its 95 % interval."""
    latency = next(result.latency for result in results if result.id == "edgekit")
    assert latency is not None
    assert latency.speedup_runtime is not None
    ratio = latency.speedup_runtime
    return [round(value, 2) for value in (ratio.value, ratio.low, ratio.high)]


def contestants(
    stages: Stages, checkpoint: Checkpoint, candidate: Candidate, recipe: Recipe, samples: list[Batch], folder: Path
) -> list[Entrant]:
    """The float export, and the int8 that each side makes of it."""
    from edgekit.core.plugin import Exporter, Quantizer, RuntimeSettings
    from edgekit.core.registry import create
    from edgekit.results import Entrant

    backend = candidate.backend
    model = stages.exported(checkpoint, create(Exporter, backend.format, "exporters"))
    spec = recipe.quantization_by_format.get(backend.format, recipe.quantization)
    quantizer = create(Quantizer, {"use": candidate.quantizer, "spec": spec.model_dump()}, "quantization")
    file = LIBRARIES[backend.format](model, samples, folder, dynamic=candidate.precision == "int8-dynamic")
    models = {
        "float": model,
        "library": stages.adopted(file, backend.runtime),
        "edgekit": stages.quantized(model, quantizer, backend.int8),
    }
    settings = RuntimeSettings(threads=candidate.target.threads)
    return [
        Entrant(
            name,
            "original" if name == "float" else "candidate",
            each,
            backend.runtime,
            settings,
            candidate.precision,
            yardstick="library" if name == "edgekit" else "float",
        )
        for name, each in models.items()
    ]


def with_onnxruntime(model: Artifact, samples: list[Batch], folder: Path, *, dynamic: bool) -> Path:
    """Dynamic, or static with U8 activations and S8 weights per channel."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """Calibration samples."""

        def __init__(self) -> None:
            self.rest = iter(samples)

        def get_next(self) -> Batch | None:
            """The next sample."""
            return next(self.rest, None)

    prepared, made = folder / "prepared.onnx", folder / "int8.onnx"
    if dynamic:
        graph = onnx.load(model.model)
        del graph.graph.value_info[:]  # shapes that the exporter inferred clash with those that the quantizer infers
        onnx.save(graph, prepared)
        quantize_dynamic(prepared, made, weight_type=QuantType.QInt8, per_channel=True)
    else:
        quant_pre_process(model.model, prepared, skip_symbolic_shape=True)
        kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(prepared, made, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **kinds)
    return made


def with_nncf(model: Artifact, samples: list[Batch], folder: Path, *, dynamic: bool) -> Path:
    """Static, with NNCF's mixed preset and, where it has attention, its model of a transformer."""
    import nncf
    import openvino

    from edgekit.quantizers.openvino_int8_static import is_transformer

    assert not dynamic
    graph = openvino.Core().read_model(model.model)
    kind = nncf.ModelType.TRANSFORMER if is_transformer(graph) else None
    quantized = nncf.quantize(graph, nncf.Dataset(samples), preset=nncf.QuantizationPreset.MIXED, model_type=kind, subset_size=len(samples))
    openvino.save_model(quantized, folder / "int8.xml")
    return folder / "int8.xml"


def with_litert(model: Artifact, samples: list[Batch], folder: Path, *, dynamic: bool) -> Path:
    """Dynamic, or static for all operators; inputs and outputs stay float, as the data has them."""
    from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe

    work = quantizer.Quantizer(str(model.model), recipe.dynamic_wi8_afp32() if dynamic else recipe.static_wi8_ai8())
    for side in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        work.update_quantization_recipe(".*", side, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
    calibration = None if dynamic else work.calibrate({"serving_default": [narrowed(model, sample) for sample in samples]})
    work.quantize(calibration).export_model(str(folder / "int8.tflite"))
    return folder / "int8.tflite"


def narrowed(model: Artifact, sample: Batch) -> Batch:
    """The sample in the types that the file takes."""
    return {spec.name: sample[spec.name].astype(spec.dtype) for spec in model.inputs}


LIBRARIES: dict[str, Callable[..., Path]] = {"onnx": with_onnxruntime, "openvino": with_nncf, "tflite": with_litert}

if __name__ == "__main__":
    main()
