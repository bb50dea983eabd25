"""Key folders and passphrases for commands: from a file, the environment or the terminal; never from an argument, never printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from edgekit.deploy.keys import KeyFolder, Passphrase

VARIABLE = "EDGEKIT_PASSPHRASE"


def folder(path: Path | None) -> KeyFolder:
    """Open the key folder that was named, or the usual one."""
    from edgekit.deploy.keys import KeyFolder, default_folder

    return KeyFolder(path or default_folder())


def unlock(keys: KeyFolder, names: Sequence[str] | None, file: Path | None) -> dict[str, Ed25519PrivateKey]:
    """Unlock the named keys, or the folder's only one.

    Raises:
        InputError: none or several to choose from, an unknown one, a wrong passphrase.
    """
    chosen = list(names or ())
    if not chosen:
        mine = [name for name in keys.names() if keys.info(name).secret]
        if not mine:
            raise InputError(f"no key in {keys.path}", hint="edgekit keys new NAME makes one")
        if len(mine) > 1:
            raise InputError(
                f"which key is to sign: {', '.join(mine)}", hint=f"--key {mine[0]}, once for each signature that the root wants"
            )
        chosen = mine
    ask = passphrase(file)
    return {name: keys.secret(name, ask) for name in chosen}


def passphrase(file: Path | None, *, none: bool = False) -> Passphrase:
    """Where passphrases come from.

    Args:
        file: its first line is the passphrase.
        none: make new keys without one.
    """

    def ask(name: str, new: bool) -> bytes | None:
        if none and new:
            return None
        if file is not None:
            try:
                lines = file.read_bytes().splitlines()
            except OSError as problem:
                raise InputError(
                    f"{file}: {problem.strerror or problem}", hint="give a file whose first line is the passphrase"
                ) from problem
            return lines[0] if lines else b""
        if VARIABLE in os.environ:
            return os.fsencode(os.environ[VARIABLE])
        if not sys.stdin.isatty():
            hint = f"set {VARIABLE}, or give --passphrase-file" + ("; --no-passphrase for a key without" if new else "")
            raise InputError(f"key {name!r} needs a passphrase, and there is nobody to ask", hint=hint)
        import typer

        given: str = typer.prompt(f"Passphrase of {name}", hide_input=True, confirmation_prompt=new, err=True)
        return given.encode()

    return ask
