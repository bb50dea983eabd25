"""What accuracy-aware precision finds, in every format, beside all integers and all float, and beside NNCF's accuracy control.

``python -m benchmarks.accuracy_aware [NAME...]`` runs ``mobilenet_v1`` and ``minilm_sst2`` (which needs ``EDGEKIT_MINILM``, as in the
recipe of that name) with ``max_drop: 0.5`` and writes ``benchmarks/results/accuracy_aware.json``; ``--format`` does one format only.
MobileNetV1 is measured as it is and with its channels evened out first, as the preset ``fast`` does.
NNCF's ``quantize_with_accuracy_control`` gets the same float model, calibration samples, judging samples and budget.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.datasets import DataSets
    from edgekit.core.plugin import Task
    from edgekit.core.recipe import Recipe
    from edgekit.core.report import ModelResult
    from edgekit.core.target import Backend, Target
    from edgekit.stages import Stages

HERE = Path(__file__).parent
RESULT = HERE / "results" / "accuracy_aware.json"
FORMATS = ("onnx", "openvino", "tflite")
MAX_DROP = 0.5
MOBILENET: dict[str, Any] = {
    "recipe": "mobilenet_v1",
    "quantizers": dict.fromkeys(FORMATS, ("int8_static",)),
    "spec": {"calibration": "mse"},
    "passes": [],
    "training": None,
}
CASES: dict[str, dict[str, Any]] = {
    "mobilenet_v1": MOBILENET,
    "mobilenet_v1_equalized": {**MOBILENET, "passes": [{"use": "equalize"}]},
    "minilm_sst2": {
        "recipe": "minilm_sst2",
        "quantizers": {"onnx": ("int8_dynamic", "int8_static"), "openvino": ("int8_static",), "tflite": ("int8_static",)},
        "spec": {},
        "passes": [],
        "training": "sst2",
    },
}


def main() -> None:
    """Measure and write; results of formats that are not measured now are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CASES), help=f"models: {', '.join(CASES)}")
    parser.add_argument("--format", choices=FORMATS, help="this format only")
    parser.add_argument("--peer", action="store_true", help="NNCF's accuracy control too (OpenVINO)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of the race in which latency is measured")
    arguments = parser.parse_args()
    content = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    for name in arguments.names:
        case = Case.of(name, arguments.rounds)
        for format_ in [arguments.format] if arguments.format else FORMATS:
            for quantizer in CASES[name]["quantizers"][format_]:
                found = case.measured(format_, quantizer, peer=arguments.peer and format_ == "openvino")
                content.setdefault(name, {}).setdefault(format_, {})[quantizer] = found
                content["command"] = "python -m benchmarks.accuracy_aware --peer"
                RESULT.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                print(name, format_, quantizer, json.dumps(found, indent=1))


@dataclass(frozen=True)
class Case:
    """A model with everything that is needed to quantize and measure it."""

    name: str
    recipe: Recipe
    sets: DataSets
    task: Task
    target: Target
    stages: Stages

    @staticmethod
    def of(name: str, rounds: int) -> Case:
        """Open the recipe of that name."""
        from edgekit.core.plugin import Task
        from edgekit.core.progress import Silent
        from edgekit.core.recipe import Budget, Measuring, load_recipe
        from edgekit.core.registry import create
        from edgekit.core.store import Store
        from edgekit.opening import open_data, open_targets
        from edgekit.stages import Stages

        recipe = load_recipe(HERE / "recipes" / f"{CASES[name]['recipe']}.yaml")
        data = recipe.data.model_copy(update={"training": CASES[name]["training"]})
        recipe = recipe.model_copy(update={"budget": Budget(max_drop=MAX_DROP), "data": data, "measure": Measuring(rounds=rounds)})
        sets, task = open_data(recipe), create(Task, recipe.task, "task")
        return Case(name, recipe, sets, task, open_targets(recipe)[0], Stages(recipe, Store(), Silent(), sets, task))

    def measured(self, format_: str, kind: str, *, peer: bool) -> dict[str, Any]:
        """Float, all integers, what the search finds and what the peer makes: accuracy on the evaluation set, and latency in one race."""
        from edgekit.core.plugin import Exporter, Pass, RuntimeSettings
        from edgekit.core.registry import create
        from edgekit.opening import open_source
        from edgekit.results import Entrant, measure

        backend = self.target.backend(format=format_)
        settings = RuntimeSettings(threads=self.target.threads)
        self.stages.disjoint()
        checkpoint = self.stages.checkpoint(open_source(self.recipe.model, self.recipe.base))
        for given in CASES[self.name]["passes"]:
            checkpoint = self.stages.improved(checkpoint, create(Pass, given, "passes"))
        model = self.stages.exported(checkpoint, create(Exporter, format_, "exporters"))
        models = {
            "float": model,
            "all_integers": self.stages.quantized(model, self._quantizer(format_, kind), backend.int8),
            "searched": self.stages.assigned(
                model, self._quantizer(format_, kind, accuracy_aware=True), backend.int8, backend.runtime, settings, timed=True
            ),
        }
        found: dict[str, Any] = {"search": searched(models["searched"])}
        with tempfile.TemporaryDirectory() as folder:
            if peer:
                began = time.perf_counter()
                models["nncf"] = self._controlled(model, backend, Path(folder))
                found["nncf_seconds"] = round(time.perf_counter() - began, 1)
            field = [
                Entrant(
                    name,
                    "original" if name == "float" else "candidate",
                    artifact,
                    backend.runtime,
                    settings,
                    artifact.precision,
                    self.target.name,
                    yardstick="float",
                )
                for name, artifact in models.items()
            ]
            results = measure(
                self.stages, field, task=self.task, evaluation=self.sets.evaluation, measuring=self.recipe.measure, seed=self.recipe.seed
            )
        return found | {result.id: figures(result) for result in results}

    def _quantizer(self, format_: str, kind: str, **spec: Any) -> Any:
        from edgekit.core.plugin import Quantizer
        from edgekit.core.registry import create

        return create(Quantizer, {"use": f"{format_}_{kind}", "spec": {**CASES[self.name]["spec"], **spec}}, "quantization")

    def _controlled(self, model: Artifact, backend: Backend, folder: Path) -> Artifact:
        """Let NNCF hold the same budget on the same samples."""
        import nncf
        import openvino
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

        from edgekit.core import openvino_ir
        from edgekit.core.chatter import muted
        from edgekit.core.plugin import Context
        from edgekit.quantizers.openvino_int8_static import is_transformer
        from edgekit.search._samples import divided, in_memory

        calibration, judging = divided(Context(example={}, calibration=self.sets.calibration, training=self.sets.training))
        samples = in_memory(judging)
        graph = openvino_ir.read(model.model)
        compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
        name = model.outputs[0].name
        right = [compiled(inputs)[0] for inputs, _ in samples]
        labelled = all(label is not None for _, label in samples)

        def score(given: Any, items: Any) -> float:
            outputs = [given(inputs)[0] for inputs, _, _ in items]
            if labelled:
                return float(np.mean([output.argmax() == label for output, (_, label, _) in zip(outputs, items, strict=True)]))
            wanted = {name: np.concatenate([expected for _, _, expected in items])}
            likely = self.task.likely_losses({name: np.concatenate(outputs)}, wanted).mean()
            return float(1 - likely / 100)

        judged = [(inputs, label, expected) for (inputs, label), expected in zip(samples, right, strict=True)]
        ranges = [inputs for inputs, _ in calibration.batches(1, limit=300)]  # type: ignore[union-attr]
        overflow = OverflowFix.ENABLE if backend.int8 and backend.int8.reduce_range else OverflowFix.DISABLE
        with muted():
            made = nncf.quantize_with_accuracy_control(
                graph,
                calibration_dataset=nncf.Dataset(ranges),
                validation_dataset=nncf.Dataset(judged, lambda item: item[0]),
                validation_fn=lambda given, items: score(given, list(items)),
                max_drop=MAX_DROP / 100,
                drop_type=nncf.DropType.ABSOLUTE,
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER if is_transformer(graph) else None,
                subset_size=len(ranges),
                advanced_quantization_parameters=AdvancedQuantizationParameters(overflow_fix=overflow),
            )
        openvino.save_model(made, folder / "model.xml", compress_to_fp16=False)
        return self.stages.adopted(folder / "model.xml", "openvino")


def searched(made: Artifact) -> dict[str, Any]:
    """The record of a search, without the names of the layers that each attempt left in float."""
    record: dict[str, Any] = json.loads((made.path / "search.json").read_text(encoding="utf-8"))
    tried = [[len(each["in_float"]), each["drop"], each["latency_ms"]] for each in record.pop("tried")]
    return {**record, "tried (layers in float, points lost, ms)": tried}


def figures(result: ModelResult) -> dict[str, Any]:
    """What counts of a measured model."""
    accuracy, latency = result.accuracy, result.latency
    assert accuracy is not None
    assert latency is not None
    assert latency.p50 is not None
    return {
        accuracy.primary: round(accuracy.metrics[accuracy.primary], 2),
        "samples": accuracy.samples,
        "change": [round(v, 2) for v in (accuracy.change.value, accuracy.change.low, accuracy.change.high)],
        "changed_percent": round(accuracy.changed, 2),
        "p50_ms": round(latency.p50.value, 3),
        "times_float": round(latency.speedup_original.value, 2) if latency.speedup_original else 1.0,
        "kB": round(result.size.raw / 1000) if result.size else None,
        **({"noise": latency.circumstances["noise"]} if "noise" in latency.circumstances else {}),
    }


if __name__ == "__main__":
    main()
