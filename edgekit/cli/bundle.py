"""``edgekit bundle``: a run's model as one signed file that devices take in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder that edgekit compress wrote.")],
    version: Annotated[int, typer.Option(min=1, help="Counter that only goes up; devices refuse a lower one.")],
    target: Annotated[str | None, typer.Option(help="Which of the run's targets; needed where there are several.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Key that signs; repeat for a threshold. The folder's only key by default.")] = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Leave signing to 'edgekit keys sign'.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the model on devices; the run's by default.")] = None,
    label: Annotated[str | None, typer.Option(help="Version for people, such as 1.4.0.")] = None,
    expires: Annotated[str | None, typer.Option(help="Last day on which devices take it in, YYYY-MM-DD.")] = None,
    samples: Annotated[int, typer.Option(min=1, max=256, help="Real inputs in the self-test.")] = 8,
    tolerance: Annotated[float, typer.Option(min=1e-9, max=0.1, help="Deviation allowed there, as a share of the output's range.")] = 0.02,
    max_latency: Annotated[float | None, typer.Option(min=0.001, help="Milliseconds at the median that the self-test allows.")] = None,
    max_memory: Annotated[float | None, typer.Option(min=1, help="MiB at the peak that the self-test allows.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write; NAME-VERSION.edgekit by default.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Key folder; $EDGEKIT_KEYS or ~/.config/edgekit/keys by default.")] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="File with the passphrase; else $EDGEKIT_PASSPHRASE, or asked.")] = None,
    json: Annotated[bool, typer.Option(help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option(help="Print tracebacks of internal errors.")] = False,
) -> None:
    """Make a signed bundle of a run's model: with runner, self-test, labels, bill of materials and provenance."""
    from edgekit.cli import _keys
    from edgekit.cli._output import console, print_json, size
    from edgekit.core.errors import InputError
    from edgekit.deploy.bundle import Unfinished, Wish, make_bundle, open_run
    from edgekit.deploy.keys import key_id
    from edgekit.deploy.reading import verify

    if unsigned and key:
        raise InputError("--unsigned leaves no work for --key", hint="leave one of them out")
    folder = _keys.folder(keys)
    signers = {} if unsigned else _keys.unlock(folder, key, passphrase_file)
    wish = Wish(
        version=version,
        label=label,
        name=name,
        expires=expires,
        samples=samples,
        tolerance=tolerance,
        max_latency=max_latency,
        max_memory=max_memory,
    )
    source = open_run(run, target)
    place = out or Path(f"{name or source.report.name}-{version}.edgekit")
    roots = folder.chain()
    made = make_bundle(source, wish, place, roots=roots, keys=signers)
    needed = roots[-1]["signed"]["bundle"]["threshold"] if roots else 1
    if len(signers) < needed:
        ids = tuple(map(key_id, signers.values()))
        if json:
            print_json(Unfinished(name=made.name, version=made.version, signed_by=ids, threshold=needed, digest=made.digest))
        else:
            more = f"edgekit keys sign {place} --key NAME adds more"
            console().print(f"{place}: {made.name} {made.version}, signed by {len(ids)} of {needed}; {more}", soft_wrap=True)
        return
    found = verify(place, folder.root())
    if json:
        print_json(found)
    else:
        who = f"signed by {len(found.signed_by)} of {found.threshold} needed"
        console().print(
            f"{place}: {found.name} {found.version} for {found.target['name']}, {size(place.stat().st_size)}, {who}", soft_wrap=True
        )
