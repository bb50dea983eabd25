"""``edgekit verify``: whether a bundle is what trusted keys signed; nothing is unpacked or run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="The bundle.")],
    root: Annotated[Path | None, typer.Option(help="Signed root to start from; the first one of the key folder by default.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Key folder; $EDGEKIT_KEYS or ~/.config/edgekit/keys by default.")] = None,
    json: Annotated[bool, typer.Option(help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option(help="Print tracebacks of internal errors.")] = False,
) -> None:
    """Check signatures, expiry and every byte of a bundle."""
    from edgekit.cli import _keys
    from edgekit.cli._output import console, print_json, size
    from edgekit.deploy.keys import read_root
    from edgekit.deploy.reading import verify

    folder = _keys.folder(keys)
    found = verify(bundle, read_root(root)) if root else verify(bundle, folder.first_root(), folder.chain())
    if json:
        print_json(found)
        return
    out = console()
    target, runtime = found.target, found.runtime
    out.print(f"{found.name} {found.version}" + (f" ({found.label})" if found.label else "") + f": {found.files} files, {size(found.size)}")
    out.print(f"  for      {target['name']}: {', '.join(target['architectures'] + target['features'])}")
    out.print(f"  runs in  {runtime['name']} >= {runtime['at_least']}, < {runtime['below']}")
    out.print(f"  expires  {found.expires or 'never'}")
    out.print(f"  signed   by {', '.join(k[:12] for k in found.signed_by)}; {found.threshold} needed by root {found.root}")
    out.print("every byte is what was signed")
