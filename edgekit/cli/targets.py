"""``edgekit targets``: which devices are known, and where each fact about them comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgekit.core.target import Target


def command(
    name: Annotated[str | None, typer.Argument(help="A target, 'host', or your own YAML file; without it all are listed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the target devices, or one of them with the source of every fact."""
    from edgekit.core.target import load_target, target_names

    if name is None:
        _list([load_target(known) for known in target_names()], as_json)
    else:
        _show(load_target(name), as_json)


def _list(targets: list[Target], as_json: bool) -> None:
    from edgekit.cli._output import console, print_json, table
    from edgekit.core.machine import this_machine

    if as_json:
        print_json(targets)
        return
    here = this_machine()
    rows = [
        [target.name, target.title.split(" (")[0], _runtimes(target), _int8(target), "measured" if target.measurable_on(here) else None]
        for target in sorted(targets, key=lambda t: (t.name != "host", t.name))
    ]
    out = console()
    out.print(table(["target", "device", "runtimes", "int8", "latency here"], rows))
    out.print("\n'edgekit targets NAME' shows every fact with its source; a YAML file of your own works wherever a name does.")


def _show(target: Target, as_json: bool) -> None:
    from itertools import groupby

    from edgekit.cli._output import console, print_json

    if as_json:
        print_json(target)
        return
    out = console()
    out.print(f"{target.name}: {target.title}", style="bold")
    for source, facts in groupby(target.facts(), key=lambda fact: fact.source):
        out.print()
        for fact in facts:
            out.print(f"{fact.field}: {_words(fact.value)}", soft_wrap=True)
        out.print(f"    {source or 'no source given'}", style="dim", soft_wrap=True)


def _runtimes(target: Target) -> str:
    return ", ".join(backend.runtime for backend in target.backends if not backend.on_request)


def _int8(target: Target) -> str:
    scheme = target.backends[0].int8
    return _words(scheme) if scheme else "no"


def _words(value: Any) -> str:
    from edgekit.core.quantization import Int8Scheme

    if isinstance(value, Int8Scheme):
        parts = [value.activations, "symmetric" if value.symmetric else "", "7-bit weights" if value.reduce_range else ""]
        return ", ".join(part for part in parts if part)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
