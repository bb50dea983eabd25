"""``edgekit benchmark``: latency, memory and size of model files, measured against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    models: Annotated[list[Path] | None, typer.Argument(help="Model files of one network; speedups are against the first.")] = None,
    to: Annotated[str | None, typer.Option(help="Device whose current model to measure: ssh://user@host or dir:///folder.")] = None,
    model: Annotated[str | None, typer.Option(help="With --to: name of the model there, if it has several.")] = None,
    task: Annotated[str | None, typer.Option(help="With --to and --data: task that judges the outputs; generic by default.")] = None,
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

    if to is not None:
        _refuse({"--runtime": runtime, "--out": out}, "on this machine, not with --to")
        _on_device(to, model, data, task or "generic", rounds, json, bool(models))
        return
    _refuse({"--model": model, "--task": task}, "on a device, with --to")
    with _progress.listener() as progress:
        report = api.benchmark(models or [], data=data, runtime=runtime, rounds=rounds, out=out, progress=progress)
    if json:
        typer.echo(report.to_json(), nl=False)
    else:
        _run.show(report, out)


def _refuse(options: dict[str, object], where: str) -> None:
    """Say which option would have no effect."""
    from edgekit.core.errors import InputError

    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"{given[0]} counts {where} only", hint="leave it out")


def _on_device(url: str, model: str | None, data: str | None, task: str, rounds: int, json: bool, files: bool) -> None:
    from edgekit.cli import _devices, _progress
    from edgekit.cli._output import print_json
    from edgekit.core.errors import InputError
    from edgekit.core.recipe import Measuring
    from edgekit.data import open_dataset
    from edgekit.deploy.measuring import benchmark_device

    if files:
        raise InputError("--to measures what is current on the device", hint="flash the model first, and name no file here")
    opened = open_dataset(data, role="evaluation", base=Path.cwd()) if data else None
    with _progress.listener() as progress:
        found = benchmark_device(url, model=model, data=opened, task=task, measuring=Measuring(rounds=rounds), progress=progress)
    if json:
        print_json(found)
    else:
        _devices.show_benchmark(found)
