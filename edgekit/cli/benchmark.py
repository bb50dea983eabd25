"""``edgekit benchmark``: latency, memory and size of model files, measured against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    models: Annotated[list[Path], typer.Argument(help="Model files of one network; speedups are against the first.")],
    data: Annotated[str | None, typer.Option(help="Set whose first sample is the input; random numbers without it.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Runtime for all of them; each format's usual one by default.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds.")] = 10,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the report; none is written without it.")] = None,
    json: Annotated[bool, typer.Option(help="Print the report as JSON on stdout.")] = False,
    debug: Annotated[bool, typer.Option(help="Print tracebacks of internal errors.")] = False,
) -> None:
    """Measure latency, memory and size of existing models in interleaved rounds."""
    from edgekit import api
    from edgekit.cli import _progress, _run

    with _progress.listener() as progress:
        report = api.benchmark(models, data=data, runtime=runtime, rounds=rounds, out=out, progress=progress)
    if json:
        typer.echo(report.to_json(), nl=False)
    else:
        _run.show(report, out)
