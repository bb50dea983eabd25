"""``edgekit devices``: what devices are, and what runs on them."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    to: Annotated[list[str], typer.Argument(help="ssh://user@host[:port][/folder] or dir:///folder, several if wanted.")],
    json: Annotated[bool, typer.Option(help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option(help="Print tracebacks of internal errors.")] = False,
) -> None:
    """Probe devices: architecture, instruction sets, memory, runtimes, current models and slots."""
    from edgekit.cli._output import console, print_json, table
    from edgekit.deploy.devices import look

    found = [look(url) for url in to]
    if json:
        print_json(found)
    else:
        out = console()
        columns = ("device", "architecture", "features", "MiB", "free MB", "python", "runtimes", "trusts")
        rows = [
            (d.device, d.problem or d.architecture, " ".join(d.features), d.memory_mb, d.free_mb, d.python, _runtimes(d.runtimes), d.trusts)
            for d in found
        ]
        out.print(table(columns, rows, right=("MiB", "free MB")))
        models = [(d.device, m.model, m.version, m.state, m.current, m.good, m.runtime) for d in found for m in d.models]
        if models:
            out.print()
            out.print(table(("device", "model", "version", "state", "current slot", "last good", "runtime"), models))
    if any(d.problem for d in found):
        raise typer.Exit(3)


def _runtimes(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))
