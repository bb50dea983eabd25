"""``edgekit rollback``: a device back to its last good model."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    to: Annotated[str, typer.Option(help="ssh://user@host[:port][/folder] or dir:///folder.")],
    model: Annotated[str | None, typer.Option(help="Name of the model; needed where the device has several.")] = None,
    json: Annotated[bool, typer.Option(help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option(help="Print tracebacks of internal errors.")] = False,
) -> None:
    """Return to the last good model, or to the good one before it."""
    from edgekit.cli._output import print_json
    from edgekit.deploy.connection import connect
    from edgekit.deploy.devices import roll_back

    with connect(to, known=True) as device:
        found = roll_back(device, model)
    if json:
        print_json(found)
    else:
        typer.echo(f"{found.device}: {found.model} is back at {found.slot}")
