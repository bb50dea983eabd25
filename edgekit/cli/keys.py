"""``edgekit keys``: signing keys, and the signed roots that tell devices which of them to trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

command = typer.Typer(help="Make signing keys, decide which of them devices trust, and sign.", no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path | None, typer.Option("--keys", help="Key folder; $EDGEKIT_KEYS or ~/.config/edgekit/keys by default.")]
PassphraseFile = Annotated[Path | None, typer.Option(help="File with the passphrase; else $EDGEKIT_PASSPHRASE, or asked.")]


@command.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Store the key unprotected (mode 600 all the same).")] = False,
    passphrase_file: PassphraseFile = None,
    keys: Folder = None,
) -> None:
    """Make an Ed25519 key; the first one also makes a root that trusts it alone."""
    from edgekit.cli import _keys

    folder = _keys.folder(keys)
    made = folder.create(name, _keys.passphrase(passphrase_file, none=no_passphrase))
    typer.echo(
        f"{folder.path / name}.key: {made.id[:12]}, " + (f"trusted for {' and '.join(made.roles)}" if made.roles else "in no root yet")
    )


@command.command(name="list")
def listing(keys: Folder = None, json: Annotated[bool, typer.Option(help="Print JSON.")] = False) -> None:
    """List the keys and what the newest root says of them."""
    from edgekit.cli import _keys
    from edgekit.cli._output import console, print_json, table

    folder = _keys.folder(keys)
    found = [folder.info(name) for name in folder.names()]
    if json:
        print_json(found)
        return
    rows = [(k.name, k.id[:12], "yes" if k.secret else "", "revoked" if k.revoked else " ".join(k.roles)) for k in found]
    console().print(table(("key", "id", "secret here", "trusted for"), rows))


@command.command()
def root(
    root_key: Annotated[list[str], typer.Option(help="Key that may sign the next root; repeat for several.")],
    bundle_key: Annotated[list[str], typer.Option(help="Key that may sign bundles; repeat for several.")],
    root_threshold: Annotated[int, typer.Option(min=1, help="Signatures that a root needs.")] = 1,
    bundle_threshold: Annotated[int, typer.Option(min=1, help="Signatures that a bundle needs.")] = 1,
    expires: Annotated[str | None, typer.Option(help="Last day of this root, YYYY-MM-DD.")] = None,
    passphrase_file: PassphraseFile = None,
    keys: Folder = None,
) -> None:
    """Write the next root: rotates keys, sets thresholds; a key that it no longer names is revoked for good."""
    from edgekit.cli import _keys

    folder = _keys.folder(keys)
    planned = folder.plan_root(root_key, bundle_key, root_threshold=root_threshold, bundle_threshold=bundle_threshold, expires=expires)
    mine = [name for name in folder.names() if folder.info(name).secret and (name in root_key or "root" in folder.info(name).roles)]
    path = folder.write_root(planned, _keys.unlock(folder, mine, passphrase_file) if mine else {})
    _tell(path)


@command.command()
def sign(
    file: Annotated[Path, typer.Argument(help="Bundle, or a root that still lacks signatures.")],
    key: Annotated[list[str] | None, typer.Option(help="Key that signs; the folder's only one by default.")] = None,
    passphrase_file: PassphraseFile = None,
    keys: Folder = None,
) -> None:
    """Add signatures to a bundle or to a pending root."""
    from edgekit.cli import _keys
    from edgekit.deploy.bundle import sign_bundle

    folder = _keys.folder(keys)
    signers = _keys.unlock(folder, key, passphrase_file)
    if file.suffix == ".json":
        _tell(folder.sign_root(file, signers))
    else:
        sign_bundle(file, signers, folder.chain())
        typer.echo(f"{file}: signed by {', '.join(signers)}")


def _tell(path: Path) -> None:
    waits = path.name.endswith(".pending.json")
    typer.echo(
        f"{path}: "
        + ("lacks signatures; sign it with more keys: edgekit keys sign" if waits else "complete; devices follow it with the next bundle")
    )
