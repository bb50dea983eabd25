"""``edgekit doctor``: what is installed and reachable, one fix per line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.doctor import Check

HEADINGS = {
    "python": "Python",
    "package": "packages",
    "format": "formats that can be made",
    "runtime": "runtimes that can run here",
    "cpu": "this machine",
    "tool": "optional tools",
    "place": "places",
}
STYLES = {"ok": "green", "absent": "dim", "missing": "red", "broken": "red", "wrong version": "red"}


def command(
    deep: Annotated[bool, typer.Option("--deep", help="Import every package, which takes seconds each.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is installed, what is missing and how to mend it; exit code 3 when a format lacks something."""
    import sys
    from itertools import groupby

    from edgekit.cli._output import console, print_json
    from edgekit.doctor import diagnose

    if deep:
        sys.stderr.write("importing every package, one after the other ...\n")
    found = diagnose(deep=deep)
    if as_json:
        print_json(found)
    else:
        out = console()
        for group, checks in groupby(found.checks, key=lambda check: check.group):
            out.print(HEADINGS[group], style="bold")
            for check in checks:
                out.print(_line(check), style=STYLES[check.state] if not check.good or check.state == "absent" else None, soft_wrap=True)
        out.print()
        verdict = "everything for the formats above is there" if found.ok else f"to mend it: {found.fix or 'see the lines above'}"
        out.print(verdict, style="green" if found.ok else "red", soft_wrap=True)
    if not found.ok:
        raise typer.Exit(3)


def _line(check: Check) -> str:
    from edgekit.cli._output import plain

    fix = f"  ->  {check.fix}" if check.fix else ""
    return plain(f"  {check.state:<14} {check.name:<20} {check.found}{fix}")
