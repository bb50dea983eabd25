"""``edgekit flash``: a bundle onto a device, or a fleet of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="The signed bundle.")],
    to: Annotated[str | None, typer.Option(help="ssh://user@host[:port][/folder] or dir:///folder.")] = None,
    inventory: Annotated[Path | None, typer.Option(help="YAML with many devices: canaries first, then batches.")] = None,
    trust: Annotated[Path | None, typer.Option(help="Root for a device that trusts nobody yet, or an older root.")] = None,
    mark_good: Annotated[bool, typer.Option("--mark-good", help="Take it for good after its self-test, without an application.")] = False,
    store_only: Annotated[bool, typer.Option("--store-only", help="Leave test and switch to 'agent.pyz activate' on the device.")] = False,
    json: Annotated[bool, typer.Option(help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option(help="Print tracebacks of internal errors.")] = False,
) -> None:
    """Send a bundle, have it checked, tested and switched to on the device; what was current stays if anything is wrong."""
    from edgekit.cli import _devices
    from edgekit.cli._output import print_json
    from edgekit.core.errors import InputError
    from edgekit.deploy.connection import connect
    from edgekit.deploy.flash import flash
    from edgekit.deploy.fleet import read_inventory, roll_out
    from edgekit.deploy.keys import read_root
    from edgekit.deploy.reading import open_bundle

    if (to is None) == (inventory is None):
        raise InputError("flash to one device or to a fleet", hint="--to URL, or --inventory FILE.yaml")
    if store_only and inventory is not None:
        raise InputError("--store-only prepares one device, not a fleet", hint="--to URL, once for each device")
    if store_only and mark_good:
        raise InputError("--mark-good needs the self-test that --store-only leaves to the device", hint="leave one of them out")
    root = read_root(trust) if trust else None
    if inventory is not None:
        fleet = roll_out(bundle, read_inventory(inventory), root=root, approve=mark_good, told=_devices.tell)
        if json:
            print_json(fleet)
        else:
            _devices.show_fleet(fleet)
        raise typer.Exit(fleet.exit_code)
    assert to is not None
    with open_bundle(bundle), connect(to) as device:
        found = flash(device, bundle, root=root, approve=mark_good, activate=not store_only)
    if json:
        print_json(found)
    else:
        _devices.show_flashed(found)
