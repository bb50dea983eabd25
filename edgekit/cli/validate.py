"""``edgekit validate``: an existing model against its original, on real data, with a gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    candidate: Annotated[Path, typer.Argument(help="The model to judge: .onnx, .tflite or OpenVINO .xml.")],
    reference: Annotated[str, typer.Option(help="The original: checkpoint, folder, hub id or .onnx.")],
    data: Annotated[str, typer.Option(help="Evaluation set: a YAML file or the name of a bundled one.")],
    arch: Annotated[str | None, typer.Option(help="file.py:factory of a PyTorch original.")] = None,
    task: Annotated[str | None, typer.Option(help="Task that judges the model.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Runtime for the candidate, such as tflite_runtime.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the report; none is written without it.")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Points of the primary metric that may be lost.")] = None,
    max_class_drop: Annotated[float | None, typer.Option(help="Points that any one class may lose.")] = None,
    max_size: Annotated[float | None, typer.Option(help="MB on disk.")] = None,
    max_latency: Annotated[float | None, typer.Option(help="Milliseconds at the median.")] = None,
    strict: Annotated[bool, typer.Option(help="Fail when the evidence is inconclusive or not measured.")] = False,
    json: Annotated[bool, typer.Option(help="Print the report as JSON on stdout.")] = False,
    debug: Annotated[bool, typer.Option(help="Print tracebacks of internal errors.")] = False,
) -> None:
    """Judge a model against its original: accuracy, agreement, latency, memory and size."""
    from edgekit import api
    from edgekit.cli import _progress, _run
    from edgekit.cli._output import while_somebody_reads

    budget = {
        "max_drop": max_drop,
        "max_class_drop": max_class_drop,
        "max_size": max_size,
        "max_latency": max_latency,
        "strict": strict or None,
    }
    with _progress.listener() as progress:
        report = api.validate(
            candidate, reference=reference, data=data, arch=arch, task=task, runtime=runtime, budget=budget, out=out, progress=progress
        )
    with while_somebody_reads():
        if json:
            typer.echo(report.to_json(), nl=False)
        else:
            _run.show(report, out)
    raise typer.Exit(report.exit_code)
