"""Measures a field of models against the first of them, the original, and describes each for the report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import edgekit
from edgekit import races
from edgekit.core.artifacts import Artifact
from edgekit.core.machine import this_machine
from edgekit.core.plugin import Exporter, RuntimeSettings
from edgekit.core.registry import create
from edgekit.core.report import Accuracy, Agreement, Latency, ModelResult, Provenance
from edgekit.sessions import runtime_packages, versions

if TYPE_CHECKING:
    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.datasets import DataSet, DataSets
    from edgekit.core.plugin import Task
    from edgekit.core.recipe import Measuring
    from edgekit.evaluation.generation import Writing
    from edgekit.evaluation.latency import Timing
    from edgekit.stages import Stages


LIBRARIES = (
    "ai-edge-litert",
    "ai-edge-quantizer",
    "litert-torch",
    "nncf",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "safetensors",
    "torch",
    "transformers",
)


@dataclass(frozen=True)
class Entrant:
    """A model that is to be measured.

    Attributes:
        id: name in the report.
        role: the original, an uncompressed export, or a candidate.
        artifact: the model.
        runtime: what runs it here.
        settings: how it is run.
        precision: what the report calls it.
        target: profile it is for.
        deployed_in: the target's own runtime, when another stands in for it here.
        at_hand: whether what is measured here holds for the target.
        yardstick: id of the uncompressed export in the same runtime.
        notes: facts for the report.
    """

    id: str
    role: Literal["original", "export", "candidate"]
    artifact: Artifact
    runtime: str
    settings: RuntimeSettings
    precision: str
    target: str | None = None
    deployed_in: str | None = None
    at_hand: bool = True
    yardstick: str | None = None
    notes: tuple[str, ...] = ()


def original(stages: Stages, checkpoint: Checkpoint) -> Artifact:
    """The model as it came, in its own framework: an exported program, or the ready graph untouched."""
    if checkpoint.kind == "graph":
        return stages.adopted(checkpoint.path / checkpoint.description["file"])
    return stages.exported(checkpoint, create(Exporter, "torch", "exporters"))


def measure(
    stages: Stages, field: Sequence[Entrant], *, task: Task, evaluation: DataSet | None, measuring: Measuring, seed: int
) -> list[ModelResult]:
    """Measure accuracy, agreement, latency, memory and size of every entrant; the first is the original.

    Without ``measuring.enabled`` only sizes are taken.
    """
    if not measuring.enabled:
        return [_described(stages, entrant) for entrant in field]
    original = field[0]
    seen: dict[str, Path] = {}
    if evaluation is not None:
        for entrant in field:
            baseline = seen.get(original.id)
            seen[entrant.id] = stages.observed(entrant.artifact, entrant.runtime, entrant.settings, original=baseline)
    timed = [entrant for entrant in field if entrant.at_hand]
    rivals = timed if timed != [original] or len(field) == 1 else []
    timings = races.raced(stages, rivals, measuring) if rivals else {}
    writings = races.written(stages, rivals, measuring) if rivals else {}
    judge = _Judge(task, evaluation, seen, original.id, measuring.resamples, seed)
    described = [
        _described(stages, entrant).model_copy(
            update={
                "accuracy": judge.accuracy(entrant),
                "agreement": judge.agreement(entrant),
                "latency": _latency(entrant, original, timings, seed),
                "memory": stages.weighed(entrant.artifact, entrant.runtime, entrant.settings) if entrant.id in timings else None,
            }
        )
        for entrant in field
    ]
    return [_writing(result, writings, original.id, seed) for result in described]


def _writing(result: ModelResult, writings: Mapping[str, Writing], original: str, seed: int) -> ModelResult:
    """Add how a model writes, and say it in a note."""
    from edgekit.evaluation.generation import summarise, told

    if result.id not in writings:
        return result
    found = summarise(writings[result.id], writings[original], seed=seed)
    return result.model_copy(update={"generation": found, "notes": (*result.notes, told(found))})


def _described(stages: Stages, entrant: Entrant) -> ModelResult:
    return ModelResult(
        id=entrant.id,
        role=entrant.role,
        target=entrant.target,
        format=entrant.artifact.format,
        runtime=entrant.deployed_in or entrant.runtime,
        precision=entrant.precision,
        digest=entrant.artifact.digest,
        size=stages.sized(entrant.artifact),
        layers=_layers(entrant.artifact),
        notes=entrant.notes,
    )


@dataclass(frozen=True)
class _Judge:
    """Accuracy and agreement from what was observed."""

    task: Task
    evaluation: DataSet | None
    seen: dict[str, Path]
    original: str
    resamples: int
    seed: int

    def accuracy(self, entrant: Entrant) -> Accuracy | None:
        """Judge one model; what did not run on the target or its like is an estimate of what the device will do."""
        from edgekit.evaluation.accuracy import judge

        if self.evaluation is None:
            return None
        return judge(
            self.task,
            self.seen[self.original],
            self.seen[entrant.id],
            self.evaluation,
            resamples=self.resamples,
            seed=self.seed,
            basis="measured" if entrant.at_hand else "estimated",
        )

    def agreement(self, entrant: Entrant) -> Agreement | None:
        from edgekit.evaluation.agreement import agree

        if self.evaluation is None or entrant.id == self.original:
            return None
        return agree(self.seen[self.original], self.seen[entrant.id], classifier=self.task.labelled)


def _latency(entrant: Entrant, original: Entrant, timings: dict[str, Timing], seed: int) -> Latency | None:
    from edgekit.evaluation.latency import summarise

    timing = timings.get(entrant.id)
    if timing is None:
        return Latency(basis="not measured", reason=f"{entrant.target} is not at hand") if entrant.target else None
    yardstick = timings.get(entrant.yardstick) if entrant.yardstick else None
    framework = timings.get(original.id) if entrant.settings.threads == original.settings.threads else None
    return summarise(timing, export=yardstick, original=framework, basis="measured", seed=seed)


def _layers(artifact: Artifact) -> dict[str, int]:
    """Count layers by precision in the plan beside a quantized model."""
    plan = artifact.path / "plan.json"
    if not plan.is_file():
        return {}
    return dict(sorted(Counter(layer["precision"] for layer in json.loads(plan.read_text(encoding="utf-8"))).items()))


def provenance(field: Sequence[Entrant], checkpoint: Checkpoint | None, sets: DataSets, seed: int) -> Provenance:
    """Say what made the results reproducible."""
    runtimes = {name for entrant in field for name in runtime_packages(entrant.runtime)}
    source = {"plugin": checkpoint.source, "digest": checkpoint.digest, **checkpoint.description} if checkpoint else {}
    return Provenance(
        edgekit=edgekit.__version__,
        packages=versions(sorted({*LIBRARIES, *runtimes})),
        machine=this_machine(),
        source=source,
        calibration=sets.calibration.provenance if sets.calibration else None,
        evaluation=sets.evaluation.provenance if sets.evaluation else None,
        training=sets.training.provenance if sets.training else None,
        seed=seed,
    )
