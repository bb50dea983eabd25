"""``edgekit compress``: from a recipe or a checkpoint to validated models and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[str, typer.Argument(metavar="RECIPE.yaml | CHECKPOINT", help="A recipe, or a checkpoint: file, folder or hub id.")],
    arch: Annotated[str | None, typer.Option(help="file.py:factory or package.module:factory that makes the architecture.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Task that judges the model: image_classification, text_classification, generic.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data set: a YAML file or the name of a bundled one.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="fast, balanced, small or max: fills in passes and precisions; --print-recipe shows what.")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Target profile; repeat for several. 'edgekit targets' lists them.")] = None,
    format: Annotated[list[str] | None, typer.Option(help="Keep to this format: onnx, openvino, tflite; repeatable.")] = None,  # noqa: A002
    runtime: Annotated[list[str] | None, typer.Option(help="Keep to this runtime; repeatable.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="Make this precision: fp32, bf16, fp16, int8, int8-dynamic, ...; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Run folder; default edgekit-out/NAME.")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Points of the primary metric that may be lost.")] = None,
    max_class_drop: Annotated[float | None, typer.Option(help="Points that any one class may lose.")] = None,
    min_speedup: Annotated[float | None, typer.Option(help="Times faster than the uncompressed export in the same runtime.")] = None,
    max_size: Annotated[float | None, typer.Option(help="MB on disk.")] = None,
    max_latency: Annotated[float | None, typer.Option(help="Milliseconds at the median.")] = None,
    strict: Annotated[bool, typer.Option(help="Fail when the evidence is inconclusive or not measured.")] = False,
    smallest: Annotated[bool, typer.Option(help="Deliver the smallest candidate within the budget instead of the fastest.")] = False,
    measure: Annotated[bool, typer.Option(help="Measure accuracy and latency; without it the verdict is 'not measured'.")] = True,
    seed: Annotated[int | None, typer.Option(help="For everything random.")] = None,
    print_recipe: Annotated[bool, typer.Option(help="Print the resolved recipe and stop.")] = False,
    json: Annotated[bool, typer.Option(help="Print the report as JSON on stdout.")] = False,
    debug: Annotated[bool, typer.Option(help="Print tracebacks of internal errors.")] = False,
) -> None:
    """Compress a model for its targets, measure it against the original, and write models and report."""
    from edgekit import api
    from edgekit.cli import _progress, _run
    from edgekit.cli._output import while_somebody_reads
    from edgekit.core.recipe import Recipe
    from edgekit.opening import anchored

    recipe: Recipe = api.resolve(
        model,
        arch=arch,
        task=task,
        data=data,
        preset=preset,
        targets=target,
        formats=format,
        runtimes=runtime,
        precisions=precision,
        budget={
            "max_drop": max_drop,
            "max_class_drop": max_class_drop,
            "min_speedup": min_speedup,
            "max_size": max_size,
            "max_latency": max_latency,
            "strict": strict or None,
        },
        choose="smallest" if smallest else None,
        measure=None if measure else False,
        seed=seed,
    )
    if print_recipe:
        resolved = anchored(recipe)
        typer.echo(resolved.model_dump_json(by_alias=True, indent=1) if json else resolved.to_yaml().rstrip())
        return
    folder = out or Path("edgekit-out") / recipe.name
    with _progress.listener() as progress:
        report = api.run(recipe, folder, progress=progress)
    with while_somebody_reads():
        if json:
            typer.echo(report.to_json(), nl=False)
        else:
            _run.show(report, folder)
    raise typer.Exit(report.exit_code)
