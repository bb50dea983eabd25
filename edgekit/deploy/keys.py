"""Keys and roots on the builder's side: Ed25519 keys in OpenSSH's encrypted form, and the chain of signed roots that devices follow.

A key folder holds ``NAME.key`` (secret, mode 600, bcrypt-protected), ``NAME.pub`` and ``roots/1.json``, ``2.json`` ... A root that still
lacks signatures waits as ``roots/N.pending.json`` for ``edgekit keys sign``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.agent import canonical, trust
from edgekit.agent.install import today
from edgekit.agent.refusal import Refused
from edgekit.core.errors import BundleError, InputError, closest
from edgekit.core.schema import Schema

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Passphrase = Callable[[str, bool], bytes | None]
"""Asked for a key's passphrase: the key's name, and whether it is a new one; None for a key that is to have none."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ROUNDS = 100
"""bcrypt rounds of a key file: about a second for each guess."""
_MOST_ROOTS = 64
"""Roots that a bundle's front may hold."""
_ROOT_NUMBER = re.compile(r"([0-9]+)\.json")


class KeyInfo(Schema):
    """A key of the folder."""

    name: str
    id: str
    secret: bool
    roles: tuple[str, ...]
    revoked: bool = False


def default_folder() -> Path:
    """Where keys lie: ``EDGEKIT_KEYS``, or ``edgekit/keys`` in the user's configuration folder."""
    chosen = os.environ.get("EDGEKIT_KEYS")
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(chosen) if chosen else base / "edgekit" / "keys"


class KeyFolder:
    """A folder of keys and roots."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.roots = path / "roots"

    def create(self, name: str, passphrase: Passphrase) -> KeyInfo:
        """Make a key; the first one of a folder also makes a root that trusts it alone.

        Raises:
            InputError: a name that is taken or no name, or an empty passphrase.
        """
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is no name for a key", hint="letters, digits, dots and dashes")
        secret_file, public_file = self.path / f"{name}.key", self.path / f"{name}.pub"
        for path in (secret_file, public_file):
            if path.exists():
                raise InputError(f"{path}: is there already", hint="choose another name; a key is never overwritten")
        words = passphrase(name, True)
        if words == b"":
            raise InputError(f"the passphrase of {name!r} is empty", hint="give one, or --no-passphrase for a key without")
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = Ed25519PrivateKey.generate()
        lock = form.PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(_ROUNDS).build(words) if words else form.NoEncryption()
        _write_secret(secret_file, key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, lock))
        public = key.public_key()
        line = public.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH) + f" {name}\n".encode()
        with public_file.open("xb") as stream:
            stream.write(line)
        if not self.chain():
            self.write_root(self._plan([name], [name], 1, 1, None), {name: key})
        return self.info(name)

    def names(self) -> list[str]:
        """Names of all keys whose public half is here."""
        return sorted(path.stem for path in self.path.glob("*.pub")) if self.path.is_dir() else []

    def public(self, name: str) -> bytes:
        """The public half of a key [32 bytes].

        Raises:
            InputError: no such key.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key

        path = self.path / f"{name}.pub"
        try:
            found = load_ssh_public_key(path.read_bytes())
        except FileNotFoundError as problem:
            raise InputError(
                f"no key {name!r} in {self.path}", hint=f"{closest(name, self.names())}; edgekit keys new NAME makes one"
            ) from problem
        except ValueError as problem:
            raise InputError(f"{path}: is no public key", hint="copy it again") from problem
        if not isinstance(found, Ed25519PublicKey):
            raise InputError(f"{path}: is no Ed25519 key", hint="edgekit keys new NAME makes one")
        return found.public_bytes_raw()

    def secret(self, name: str, passphrase: Passphrase) -> Ed25519PrivateKey:
        """Unlock a key.

        Raises:
            InputError: no such key, a file that others can read, or a wrong passphrase.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key

        path = self.path / f"{name}.key"
        if not path.is_file():
            self.public(name)
            raise InputError(f"the secret half of {name!r} is not in {self.path}", hint="sign where it is")
        if path.stat().st_mode & 0o077:
            raise InputError(f"{path}: can be read by others", hint=f"chmod 600 {path}, and consider the key known to them")
        data = path.read_bytes()
        try:
            found = load_ssh_private_key(data, None)
        except (TypeError, ValueError):
            try:
                found = load_ssh_private_key(data, passphrase(name, False))
            except (TypeError, ValueError):
                raise InputError(f"{path}: can't be unlocked", hint="check the passphrase") from None
        if not isinstance(found, Ed25519PrivateKey):
            raise InputError(f"{path}: is no Ed25519 key", hint="edgekit keys new NAME makes one")
        return found

    def info(self, name: str) -> KeyInfo:
        """Describe a key, with the roles that the newest root gives it."""
        name_id = trust.key_id(self.public(name))
        chain = self.chain()
        root: Any = chain[-1]["signed"] if chain else {"root": {"keys": []}, "bundle": {"keys": []}, "revoked": []}
        roles = tuple(role for role in ("root", "bundle") if name_id in root[role]["keys"])
        return KeyInfo(name=name, id=name_id, secret=(self.path / f"{name}.key").is_file(), roles=roles, revoked=name_id in root["revoked"])

    def chain(self) -> list[trust.Envelope]:
        """All roots, oldest first.

        Raises:
            BundleError: a damaged one.
        """
        if not self.roots.is_dir():
            return []
        numbered = sorted((int(m[1]), path) for path in self.roots.iterdir() if (m := _ROOT_NUMBER.fullmatch(path.name)))
        return [read_root(path) for _, path in numbered]

    def root(self) -> trust.Envelope:
        """The newest root.

        Raises:
            InputError: there is none.
        """
        chain = self.chain()
        if not chain:
            raise InputError(f"no root in {self.path}", hint="edgekit keys new NAME makes a key and a root")
        return chain[-1]

    def first_root(self) -> trust.Envelope:
        """The root that devices start from.

        Raises:
            InputError: there is none.
        """
        self.root()
        return self.chain()[0]

    def plan_root(
        self,
        root_keys: Sequence[str],
        bundle_keys: Sequence[str],
        *,
        root_threshold: int = 1,
        bundle_threshold: int = 1,
        expires: str | None = None,
    ) -> dict[str, Any]:
        """Decide the next root; keys that the last one had and this one has not are revoked for good.

        Raises:
            InputError: a threshold that the keys can't reach, an unknown or revoked key, no day to come, or one root too many.
        """
        for role, names, threshold in (("root", root_keys, root_threshold), ("bundle", bundle_keys, bundle_threshold)):
            if not 1 <= threshold <= len(set(names)):
                raise InputError(
                    f"{len(set(names))} {role} keys can't give {threshold} signatures", hint="name more keys or a lower threshold"
                )
        if expires is not None:
            check_expiry(expires)
        return self._plan(root_keys, bundle_keys, root_threshold, bundle_threshold, expires)

    def write_root(self, signed: Mapping[str, Any], keys: Mapping[str, Ed25519PrivateKey]) -> Path:
        """Sign a root with the keys at hand and store it; one that still lacks signatures waits as pending.

        Raises:
            InputError: another root waits for signatures.
        """
        envelope = {"signed": dict(signed), "signatures": signatures(canonical.encode(dict(signed)), keys.values())}
        return self._store(envelope)

    def sign_root(self, path: Path, keys: Mapping[str, Ed25519PrivateKey]) -> Path:
        """Add signatures to a pending root; it becomes the newest one as soon as they suffice."""
        envelope = read_root(path, pending=True)
        envelope["signatures"].update(signatures(canonical.encode(envelope["signed"]), keys.values()))
        return self._store(envelope)

    def _plan(
        self, root_keys: Sequence[str], bundle_keys: Sequence[str], of_root: int, of_bundle: int, expires: str | None
    ) -> dict[str, Any]:
        publics = {name: self.public(name) for name in {*root_keys, *bundle_keys}}
        ids = {name: trust.key_id(public) for name, public in publics.items()}
        last = chain[-1]["signed"] if (chain := self.chain()) else None
        if len(chain) == _MOST_ROOTS:
            raise InputError(
                f"devices follow {_MOST_ROOTS} roots at most",
                hint="make a new key folder, and hand its root to devices set up anew",
            )
        gone = [name for name, key in ids.items() if last and key in last["revoked"]]
        if gone:
            raise InputError(f"key {gone[0]!r} is revoked, and stays so", hint="make a new one: edgekit keys new NAME")
        revoked = sorted({*last["revoked"], *last["keys"]} - set(ids.values())) if last else []
        return {
            "type": "edgekit-root",
            "schema": 1,
            "version": last["version"] + 1 if last else 1,
            "expires": expires,
            "keys": {ids[name]: public.hex() for name, public in publics.items()},
            "root": {"keys": sorted({ids[name] for name in root_keys}), "threshold": of_root},
            "bundle": {"keys": sorted({ids[name] for name in bundle_keys}), "threshold": of_bundle},
            "revoked": revoked,
        }

    def _store(self, envelope: trust.Envelope) -> Path:
        version, chain = envelope["signed"]["version"], self.chain()
        pending = self.roots / f"{version}.pending.json"
        if pending.exists():
            waiting = read_root(pending, pending=True)
            if waiting["signed"] != envelope["signed"]:
                raise InputError(f"{pending}: another root waits for signatures", hint="sign it with edgekit keys sign, or remove it")
            envelope = {**envelope, "signatures": {**waiting["signatures"], **envelope["signatures"]}}
        try:
            if chain:
                trust.advance(chain[-1], [envelope], trust.parse_date("2000-01-01"))
            trust.check_root(envelope)
            path = self.roots / f"{version}.json"
        except Refused as problem:
            if problem.kind != "signature":
                raise BundleError(problem.message, hint=problem.hint) from problem
            path = pending
        self.roots.mkdir(parents=True, exist_ok=True)
        path.write_bytes(canonical.encode(envelope))
        if path != pending:
            pending.unlink(missing_ok=True)
        return path


def signatures(message: bytes, keys: Iterable[Ed25519PrivateKey]) -> dict[str, str]:
    """Sign a message; signatures by key id."""
    return {key_id(key): key.sign(message).hex() for key in keys}


def key_id(key: Ed25519PrivateKey) -> str:
    """What roots and signatures call a key."""
    return trust.key_id(key.public_key().public_bytes_raw())


def read_root(path: Path, *, pending: bool = False) -> trust.Envelope:
    """Read a signed root.

    Raises:
        BundleError: no root, or (unless pending) not signed by its own keys.
    """
    try:
        envelope = canonical.decode(path.read_bytes(), path.name)
        return trust.check_root(envelope, path.name)
    except OSError as problem:
        raise BundleError(f"{path}: {problem.strerror or problem}", hint="give the path of a root, such as roots/1.json") from problem
    except Refused as problem:
        if pending and problem.kind == "signature":
            return envelope
        raise BundleError(f"{path}: {problem.message}", hint=problem.hint) from problem


def check_expiry(day: str) -> None:
    """Check that something may expire on a day.

    Raises:
        InputError: no such day, or one that is past.
    """
    try:
        past = trust.parse_date(day) < today()
    except Refused as problem:
        raise InputError(f"expires: {problem.message}", hint=problem.hint or "write it as YYYY-MM-DD") from problem
    if past:
        raise InputError(f"expires: {day} is past", hint="name a later day")


def _write_secret(path: Path, data: bytes) -> None:
    """Write a file that nobody else could read at any moment."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(handle)
