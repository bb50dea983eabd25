"""``edgekit flash``: a bundle onto devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="The signed bundle.")],
    to: Annotated[str, typer.Option(help="ssh://user@host[:port][/folder] or dir:///folder.")],
    trust: Annotated[Path | None, typer.Option(help="Root that a device which trusts nobody yet, or an older root, is to trust.")] = None,
    mark_good: Annotated[
        bool, typer.Option("--mark-good", help="Take it for good after its self-test, instead of leaving that to the application.")
    ] = False,
    store_only: Annotated[
        bool, typer.Option("--store-only", help="Don't run it here; the device tests it with 'agent.pyz activate'.")
    ] = False,
    json: Annotated[bool, typer.Option(help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option(help="Print tracebacks of internal errors.")] = False,
) -> None:
    """Send a bundle, have it checked, tested and switched to on the device; what was current stays if anything is wrong."""
    from edgekit.cli import _devices
    from edgekit.cli._output import print_json
    from edgekit.deploy.connection import connect
    from edgekit.deploy.flash import flash
    from edgekit.deploy.keys import read_root

    root = read_root(trust) if trust else None
    with connect(to) as device:
        found = flash(device, bundle, root=root, approve=mark_good, activate=not store_only)
    if json:
        print_json(found)
    else:
        _devices.show_flashed(found)
