"""The Python API: the commands of the command line as functions that return their reports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgekit.core.errors import RecipeError
from edgekit.core.recipe import Recipe, load_recipe
from edgekit.core.schema import parse
from edgekit.opening import anchored, anchored_file
from edgekit.presets import expanded

if TYPE_CHECKING:
    from edgekit.comparison import Comparison
    from edgekit.core.progress import Progress
    from edgekit.core.report import Report
    from edgekit.inspection import Inspection


def compress(model: str | Path | Recipe, *, out: Path | None = None, progress: Progress | None = None, **wishes: Any) -> Report:
    """Compress a model for its targets and measure it against the original.

    Args:
        model: a recipe (object or YAML file), or a checkpoint: file, folder or hub id.
        out: run folder; default ``edgekit-out/NAME``.
        progress: told how far the run has come.
        **wishes: as for :func:`resolve`.

    Returns:
        The report; ``report.exit_code`` tells whether a build may ship.

    Raises:
        EdgekitError: wrong input (exit code 2) or an environment that lacks something (exit code 3).
    """
    recipe = model if isinstance(model, Recipe) else resolve(str(model), **wishes)
    return run(recipe, out or Path("edgekit-out") / recipe.name, progress=progress)


def run(recipe: Recipe, out: Path, *, progress: Progress | None = None) -> Report:
    """Run a resolved recipe and write its run folder."""
    from edgekit import pipeline

    return pipeline.compress(recipe, out, progress=progress)


def resolve(
    model: str,
    *,
    arch: str | None = None,
    task: str | None = None,
    data: str | None = None,
    preset: str | None = None,
    targets: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
    runtimes: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    budget: Mapping[str, Any] | None = None,
    choose: Literal["fastest", "smallest"] | None = None,
    measure: bool | None = None,
    seed: int | None = None,
) -> Recipe:
    """Make a recipe from a recipe file or a checkpoint and wishes; a wish overrides the file, and a preset fills in what neither says.

    Raises:
        RecipeError: a wish that does not fit, or a recipe file with a wrong key.
    """
    here = Path.cwd()
    if model.endswith((".yaml", ".yml")):
        recipe = load_recipe(Path(model))
        if arch is not None:
            raise RecipeError("--arch does not go with a recipe file", hint="write it in the recipe: 'model: {path: ..., arch: ...}'")
        content = {**recipe.model_dump(by_alias=True), "base": recipe.base}
        said = set(recipe.model_fields_set)
        if data is not None:
            content["data"] = anchored_file(data, here)
    else:
        content = {"schema": 1, "name": _name(model), "base": here, "model": {"path": model}, "data": data or {}}
        said = set()
        if arch is not None:
            content["model"]["arch"] = arch
    content["budget"] = {**dict(content.get("budget", {})), **{k: v for k, v in (budget or {}).items() if v is not None}}
    if measure is not None:
        content["measure"] = {**dict(content.get("measure", {})), "enabled": measure}
    wishes = {
        "task": task,
        "targets": [anchored_file(name, here) for name in targets or ()] or None,
        "formats": formats or None,
        "runtimes": runtimes or None,
        "precisions": precisions or None,
        "choose": choose,
        "seed": seed,
    }
    wished = {key: value for key, value in wishes.items() if value is not None}
    content.update(wished)
    if preset is not None:
        filling = expanded(preset, _task_name(content.get("task", "generic")))
        content.update({key: value for key, value in filling.items() if key not in said | wished.keys()})
    return parse(Recipe, content, model)


def _task_name(wish: Any) -> str:
    return wish if isinstance(wish, str) else str(wish.get("use", ""))


def _name(model: str) -> str:
    stem = Path(model.rstrip("/")).name
    stem = Path(stem).stem if Path(stem).suffix else stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "model"


def validate(
    candidate: str | Path,
    *,
    reference: str,
    data: str,
    arch: str | None = None,
    task: str | None = None,
    runtime: str | None = None,
    budget: Mapping[str, Any] | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure an existing model against its original.

    Args:
        candidate: .onnx, .tflite or OpenVINO .xml file.
        reference: the original: checkpoint, folder, hub id or .onnx.
        data: evaluation set, YAML file or bundled name.
        arch: ``file.py:factory`` of a PyTorch original.
        task: plugin that judges; ``generic`` by default.
        runtime: runs the candidate; the format's usual one by default.
        budget: fields of :class:`edgekit.core.recipe.Budget`.
        out: folder for the report; none is written without it.
        progress: told how far it has come.

    Raises:
        EdgekitError: wrong input or an environment that lacks something.
    """
    from edgekit import judging
    from edgekit.delivery import deliver, free_folder

    recipe = resolve(reference, arch=arch, task=task, data=data, budget=budget)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"calibration": None})})
    if out is not None:
        free_folder(out)
    report = judging.validate(Path(candidate), recipe, runtime=runtime, progress=progress)
    if out is not None:
        deliver(report, anchored(recipe), {}, out)
    return report


def benchmark(
    models: Sequence[str | Path],
    *,
    data: str | None = None,
    runtime: str | None = None,
    rounds: int = 10,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Race existing models of one network; speedups in the report are against the first.

    Raises:
        EdgekitError: wrong input or an environment that lacks something.
    """
    from edgekit import judging
    from edgekit.delivery import deliver, free_folder

    content = {
        "schema": 1,
        "name": "benchmark",
        "base": Path.cwd(),
        "model": {"path": str(models[0]) if models else ""},
        "data": data or {},
        "measure": {"rounds": rounds},
    }
    recipe = parse(Recipe, content, "benchmark")
    if out is not None:
        free_folder(out)
    report = judging.benchmark([Path(m) for m in models], recipe, runtime=runtime, progress=progress)
    if out is not None:
        deliver(report, anchored(recipe), {}, out)
    return report


def inspect(model: str | Path, *, target: str | None = None) -> Inspection:
    """Describe a model file without running it; with a target, say what that target would refuse or run in float."""
    from edgekit.core.target import load_target
    from edgekit.inspection import inspect as inspect_file

    return inspect_file(Path(model), target=load_target(target) if target else None)


def compare(runs: Sequence[str | Path], **gates: float | None) -> Comparison:
    """Compare reports or run folders; the first is the baseline."""
    from edgekit.comparison import compare as compare_runs

    return compare_runs([Path(run) for run in runs], **gates)
