"""One run from checkpoint to verdict; the only file that knows the order of the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import gate
from edgekit.bench import RuntimeBench
from edgekit.candidates import FLOAT, Candidate, plan_candidates
from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.errors import RecipeError
from edgekit.core.machine import this_machine
from edgekit.core.plugin import Exporter, Pass, Quantizer, RuntimeSettings, Task
from edgekit.core.progress import Progress, Silent
from edgekit.core.registry import create, name_of
from edgekit.core.report import ModelResult, Report, Status, TargetResult
from edgekit.core.store import Store
from edgekit.core.target import Backend, Target
from edgekit.delivery import deliver, free_folder
from edgekit.opening import anchored, anchored_pass, anchored_tokenizers, open_data, open_source, open_targets
from edgekit.results import Entrant, measure, original, provenance
from edgekit.search import precision
from edgekit.sessions import NATIVE
from edgekit.stages import Stages

if TYPE_CHECKING:
    from edgekit.core.bench import Bench
    from edgekit.core.recipe import Recipe

ORIGINAL = "original"
UNSATURATED = "judged with int8 products that add up exactly, as the target's kernels add them and this CPU's would not"


@dataclass(frozen=True)
class Built:
    """A candidate that has been made."""

    candidate: Candidate
    artifact: Artifact
    notes: tuple[str, ...] = ()


def compress(recipe: Recipe, out: Path, *, store: Store | None = None, progress: Progress | None = None) -> Report:
    """Run a recipe: make the candidates, measure them, choose, and write models and report below ``out``.

    Args:
        recipe: what to make.
        out: run folder; an earlier run's folder there is replaced in one step.
        store: where stage results are kept; the user's store by default.
        progress: told how far the run has come.

    Raises:
        EdgekitError: anything wrong with the recipe, its files or the machine.
    """
    free_folder(out)
    recipe = anchored_tokenizers(recipe)
    targets = open_targets(recipe)
    task = create(Task, recipe.task, "task")
    source = open_source(recipe.model, recipe.base)
    preparing, passes = (_passes(recipe, name) for name in ("prepare", "passes"))
    measurable = [t.measurable_on(this_machine()) for t in targets]
    candidates = plan_candidates(recipe, targets, task, measurable=measurable, reachable=source.reaches)
    sets = open_data(recipe, training=any(work.trains for work in (*preparing, *passes)))
    stages = Stages(recipe, store or Store(), progress or Silent(), sets, task)

    stages.disjoint()
    bench = _bench(candidates, progress or Silent())
    checkpoint = _improved(stages, stages.checkpoint(source), preparing, recipe, bench)
    improved = _improved(stages, checkpoint, passes, recipe, bench)
    built = [_build(stages, candidate, improved if candidate.passed else checkpoint, recipe) for candidate in candidates]
    field = [_entrant(b, built) for b in built]
    if recipe.measure.enabled:
        field.insert(0, _original(stages, checkpoint, targets[0]))
    results = measure(stages, field, task=task, evaluation=sets.evaluation, measuring=recipe.measure, seed=recipe.seed)

    judged = [gate.annotate(result, results, recipe.budget) for result in results]
    outcomes = [_outcome(target, judged, built, recipe) for target in targets]
    status = worst([outcome.status for outcome in outcomes])
    report = Report(
        name=recipe.name,
        status=status,
        summary=gate.summary(status, outcomes, judged),
        task=name_of(task),
        budget=recipe.budget,
        models=_with_files(judged, outcomes, built),
        targets=tuple(outcomes),
        notes=improved.notes,
        stages=tuple(stages.records),
        provenance=provenance(field, checkpoint, sets, recipe.seed),
    )
    deliver(report, anchored(recipe), {b.candidate.id: b.artifact for b in built}, out)
    return report


def _passes(recipe: Recipe, name: str) -> list[Pass]:
    return [create(Pass, anchored_pass(wish, recipe.base), f"{name}.{i}") for i, wish in enumerate(getattr(recipe, name))]


def _build(stages: Stages, candidate: Candidate, checkpoint: Checkpoint, recipe: Recipe) -> Built:
    backend = candidate.backend
    model = stages.exported(checkpoint, create(Exporter, _exporter(backend, recipe.exporters), "exporters"))
    found = stages.verified(model, backend.stand_in or backend.runtime, checkpoint)
    if candidate.quantizer is None:
        told = f"differs from its PyTorch or source model by at most {found['max_absolute']:.1e}"
        return Built(candidate, model, (told, *model.metadata.get("changes", ()), *_open_lengths(model)))
    spec = recipe.quantization_by_format.get(backend.format, recipe.quantization)
    quantizer = create(Quantizer, {"use": candidate.quantizer, "spec": spec.model_dump()}, "quantization")
    if not quantizer.spec.accuracy_aware:
        return Built(candidate, stages.quantized(model, quantizer, backend.int8))
    if model.components:
        raise RecipeError("accuracy_aware searches single graphs, not models of several", hint="name layers in 'exclude' instead")
    runtime, timed = backend.stand_in or backend.runtime, _at_hand(candidate)
    settings = RuntimeSettings(threads=candidate.target.threads, precision=_execution(candidate))
    made = stages.assigned(model, quantizer, backend.int8, runtime, settings, timed=timed)
    return Built(candidate, made, precision.summary(made))


def _bench(candidates: Sequence[Candidate], progress: Progress) -> Bench | None:
    """What times modules for passes: the first wanted runtime of the first target that can be measured here."""
    for candidate in candidates:
        backend, target = candidate.backend, candidate.target
        if _at_hand(candidate):
            settings = RuntimeSettings(threads=target.threads)
            return RuntimeBench(create(Exporter, _exporter(backend, {}), "exporters"), backend.runtime, settings, progress=progress)
    return None


def _at_hand(candidate: Candidate) -> bool:
    """Whether what is measured here is measured on the target."""
    return candidate.target.runs_on(this_machine(), candidate.backend)


def _execution(candidate: Candidate) -> str:
    """Precision to execute in; a machine that stands in for the target has to compute what the target's kernels do."""
    if candidate.execution != "f32":
        return candidate.execution
    return candidate.target.execution_on(this_machine(), candidate.backend, candidate.precision)


def _improved(stages: Stages, checkpoint: Checkpoint, passes: Sequence[Pass], recipe: Recipe, bench: Bench | None) -> Checkpoint:
    """Take the checkpoint through the passes; a pass may learn from the original, from what an earlier one made, or from another model."""
    made = {ORIGINAL: checkpoint}
    improved = checkpoint
    for work in passes:
        teacher = work.taught_by
        if teacher is None:
            taught = None
        elif isinstance(teacher, str) and teacher in made:
            taught = made[teacher]
        else:
            taught = stages.checkpoint(open_source(teacher, recipe.base))
        improved = made[name_of(work)] = stages.improved(improved, work, teacher=taught, bench=bench)
    return improved


def _exporter(backend: Backend, wishes: Mapping[str, str]) -> dict[str, Any]:
    """The exporter that writes what a backend reads."""
    return {"use": wishes.get(backend.format, backend.format), **({"opset": backend.opset} if backend.opset is not None else {})}


def _original(stages: Stages, checkpoint: Checkpoint, target: Target) -> Entrant:
    """The model as it came, in the runtime of its own format."""
    model = original(stages, checkpoint)
    return Entrant(ORIGINAL, "original", model, NATIVE[model.format], RuntimeSettings(threads=target.threads), FLOAT)


def _entrant(built: Built, field: Sequence[Built]) -> Entrant:
    candidate = built.candidate
    backend, target = candidate.backend, candidate.target
    exports = [b.candidate for b in field if b.candidate.role == "export" and b.candidate.target == target]
    yardstick = next(export.id for export in exports if export.backend == backend)
    execution = _execution(candidate)
    notes = (*built.notes, UNSATURATED) if execution == "unsaturated" else built.notes
    return Entrant(
        id=candidate.id,
        role=candidate.role,
        artifact=built.artifact,
        runtime=backend.stand_in or backend.runtime,
        settings=RuntimeSettings(threads=target.threads, precision=execution),
        precision=candidate.precision,
        target=target.name,
        deployed_in=backend.runtime,
        at_hand=_at_hand(candidate),
        yardstick=yardstick,
        notes=notes,
    )


def _outcome(target: Target, results: Sequence[ModelResult], built: Sequence[Built], recipe: Recipe) -> TargetResult:
    mine = {b.candidate.id: b for b in built if b.candidate.target == target and b.candidate.wanted}
    chosen, reason = gate.choose([r for r in results if r.id in mine], recipe.budget, recipe.choose)
    best = mine[chosen]
    result = next(r for r in results if r.id == chosen)
    checks = gate.check(result, recipe.budget)
    return TargetResult(
        target=target.name,
        title=target.title,
        chosen=chosen,
        reason=reason,
        status=gate.status(checks),
        checks=checks,
        command=_command(best, result.precision),
    )


def _command(best: Built, precision: str) -> str | None:
    """What measures a delivered model on a device; a model of several graphs runs in edgekit's runner only."""
    artifact = best.artifact
    return None if artifact.components else best.candidate.backend.command_for(artifact.file, precision, _shapes(artifact))


def _open_lengths(artifact: Artifact) -> tuple[str, ...]:
    """Say which inputs the graph takes at any length."""
    names = [spec.name for spec in artifact.inputs if any(isinstance(axis, str) for axis in spec.shape[1:])]
    return (f"takes any length of {', '.join(names)}",) if names and "lengths" not in artifact.metadata else ()


def _shapes(artifact: Artifact) -> dict[str, list[int]]:
    """Shapes for one sample, of the inputs whose axes vary."""
    varying = [spec for spec in artifact.inputs if any(isinstance(axis, str) for axis in spec.shape)]
    return {spec.name: [1 if isinstance(axis, str) else axis for axis in spec.shape] for spec in varying}


def _with_files(results: Sequence[ModelResult], outcomes: Sequence[TargetResult], built: Sequence[Built]) -> tuple[ModelResult, ...]:
    """Fill in where the delivered models lie."""
    delivered = {outcome.chosen for outcome in outcomes}
    files = {b.candidate.id: f"{b.candidate.target.name}/{b.artifact.file}" for b in built if b.candidate.id in delivered}
    return tuple(result.model_copy(update={"file": files.get(result.id)}) for result in results)


def worst(states: Sequence[Status]) -> Status:
    """Return the gravest of some verdicts."""
    order: tuple[Status, ...] = ("fail", "inconclusive", "not measured", "pass")
    return next(state for state in order if state in states)
