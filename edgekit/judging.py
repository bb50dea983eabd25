"""Judges models that already exist: one against its original, or several against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import gate
from edgekit.candidates import FLOAT
from edgekit.core import digest
from edgekit.core.artifacts import Artifact, Batch, TensorSpec
from edgekit.core.datasets import DataSet, DataSets
from edgekit.core.errors import DataError, InputError, RecipeError
from edgekit.core.plugin import RuntimeSettings, Task
from edgekit.core.progress import Progress, Silent
from edgekit.core.registry import create, name_of
from edgekit.core.report import Report, TargetResult
from edgekit.core.store import Store
from edgekit.core.target import HOST, host_target
from edgekit.opening import open_data, open_source
from edgekit.results import Entrant, measure, original, provenance
from edgekit.sessions import NATIVE
from edgekit.stages import Stages

if TYPE_CHECKING:
    from edgekit.core.recipe import Recipe

ORIGINAL = "original"


def validate(candidate: Path, recipe: Recipe, *, runtime: str | None = None, progress: Progress | None = None) -> Report:
    """Measure an existing model against its original.

    Args:
        candidate: .onnx, .tflite or OpenVINO .xml file.
        recipe: names the original (``model``), task, evaluation set, budget and measuring.
        runtime: runs the candidate; the format's usual one by default.
        progress: told how far it has come.

    Raises:
        DataError: no evaluation set.
        EdgekitError: anything else wrong with files or machine.
    """
    task = create(Task, recipe.task, "task")
    evaluation = open_data(recipe).evaluation
    if evaluation is None:
        raise DataError("validation needs samples to judge on", hint="name a set with --data SET.yaml")
    stages = Stages(recipe, Store(), progress or Silent(), DataSets(evaluation=evaluation), task)
    source = open_source(recipe.model, recipe.base)
    checkpoint = stages.checkpoint(source)
    model = original(stages, checkpoint)
    judged = stages.adopted(candidate, runtime)
    settings = RuntimeSettings(threads=host_target().threads)
    name = f"{HOST}/{candidate.name}"
    field = [
        Entrant(ORIGINAL, "original", model, NATIVE[model.format], settings, FLOAT),
        Entrant(name, "candidate", judged, runtime or NATIVE[judged.format], settings, judged.precision, target=HOST),
    ]
    results = measure(stages, field, task=task, evaluation=evaluation, measuring=recipe.measure, seed=recipe.seed)
    models = [gate.annotate(result, results, recipe.budget) for result in results]
    checks = gate.check(models[1], recipe.budget)
    outcome = TargetResult(
        target=HOST, title=host_target().title, chosen=name, reason="the model to judge", status=gate.status(checks), checks=checks
    )
    return Report(
        name=recipe.name,
        status=outcome.status,
        summary=gate.summary(outcome.status, [outcome], models),
        task=name_of(task),
        budget=recipe.budget,
        models=tuple(models),
        targets=(outcome,),
        notes=checkpoint.notes,
        stages=tuple(stages.records),
        provenance=provenance(field, checkpoint, DataSets(evaluation=evaluation), recipe.seed),
    )


def benchmark(models: Sequence[Path], recipe: Recipe, *, runtime: str | None = None, progress: Progress | None = None) -> Report:
    """Race existing models against each other; speedups are against the first.

    Args:
        models: .onnx, .tflite, OpenVINO .xml or .pt2 files that take the same inputs.
        recipe: data (real inputs; random ones without) and measuring.
        runtime: runs all of them; each format's usual one by default.
        progress: told how far it has come.

    Raises:
        InputError: no model, or models that take different inputs.
    """
    if not models:
        raise RecipeError("nothing to measure", hint="give at least one model file")
    names = [path.name if [p.name for p in models].count(path.name) == 1 else str(path) for path in models]
    if len(set(names)) != len(names):
        raise RecipeError("a model is named twice", hint="name each model once")
    chosen = recipe.data.evaluation or recipe.data.calibration
    task = create(Task, "generic", "task")
    sets = open_data(recipe) if chosen else DataSets()
    real = sets.calibration or sets.evaluation
    scout = Stages(recipe, Store(), Silent(), DataSets(), task)
    adopted = [scout.adopted(path, runtime) for path in models]
    inputs = real or RandomInputs(_common_inputs(adopted, names), recipe.seed)
    stages = Stages(recipe, Store(), progress or Silent(), DataSets(evaluation=inputs), task)
    settings = RuntimeSettings(threads=host_target().threads)
    field = [
        Entrant(name, "candidate" if i else "original", a, runtime or NATIVE[a.format], settings, a.precision)
        for i, (name, a) in enumerate(zip(names, adopted, strict=True))
    ]
    results = measure(stages, field, task=task, evaluation=None, measuring=recipe.measure, seed=recipe.seed)
    fastest = min(results, key=lambda r: r.latency.p50.value if r.latency and r.latency.p50 else float("inf"))
    return Report(
        name=recipe.name,
        status="not measured",
        summary=f"fastest: {fastest.id}; accuracy was not judged",
        task="generic",
        budget=recipe.budget,
        models=tuple(results),
        targets=(),
        notes=() if real else ("inputs were random; a model may run faster or slower on real ones",),
        stages=tuple(stages.records),
        provenance=provenance(field, None, DataSets(evaluation=real), recipe.seed),
    )


def _common_inputs(artifacts: Sequence[Artifact], names: Sequence[str]) -> tuple[TensorSpec, ...]:
    first = artifacts[0]
    for name, other in zip(names[1:], artifacts[1:], strict=True):
        if {(s.name, len(s.shape)) for s in first.inputs} != {(s.name, len(s.shape)) for s in other.inputs}:
            raise InputError(
                f"{name} takes other inputs ({_listed(other)}) than {names[0]} ({_listed(first)})",
                hint="measure models of one network together",
            )
    return first.inputs


def _listed(artifact: Artifact) -> str:
    return ", ".join(f"{s.name} {list(s.shape)}" for s in artifact.inputs)


class RandomInputs(DataSet):
    """One sample of seeded random numbers for models whose data is not at hand; varying axes have length 1 (batch) or 64."""

    name = "random inputs"
    classes = ()

    def __init__(self, specs: Sequence[TensorSpec], seed: int) -> None:
        self._specs = tuple(specs)
        self._seed = seed

    @property
    def digest(self) -> str:
        """SHA-256 over shapes and seed."""
        return digest.of_json([[s.name, s.dtype, list(s.shape)] for s in self._specs] + [self._seed])

    @property
    def provenance(self) -> dict[str, Any]:
        """Say that the numbers are random."""
        return {"name": self.name, "seed": self._seed}

    def __len__(self) -> int:
        return 1

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield the one sample."""
        rng = np.random.default_rng(self._seed)
        batch = {}
        for spec in self._specs:
            shape = tuple((size if axis == 0 else 64) if isinstance(n, str) else n for axis, n in enumerate(spec.shape))
            kind = np.dtype(spec.dtype)
            batch[spec.name] = rng.standard_normal(shape).astype(kind) if kind.kind == "f" else np.ones(shape, kind)
        yield batch, [None] * size

    def sample_digests(self) -> Iterator[str]:
        """Yield the digest of the one sample."""
        yield self.digest

    def metadata(self) -> list[dict[str, str]]:
        """No further columns."""
        return [{}]
