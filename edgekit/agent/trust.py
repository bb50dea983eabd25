"""Whom a device trusts: a signed root that names keys and thresholds, and is replaced only by one that old and new keys signed.

As in The Update Framework (TUF 1.0.33, sections 4.3 and 5.3): version N+1 must carry a threshold of signatures of version N's root keys
and of its own; so a lost key is revoked by a root without it, and no single key that leaks can make itself trusted.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from . import canonical, ed25519, shape
from .refusal import Refused

Envelope = dict[str, Any]
"""``{"signed": {...}, "signatures": {key id: signature}}``"""

KEY_ID = r"[0-9a-f]{64}"
DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_PUBLIC = r"[0-9a-f]{64}"
_SIGNATURE = r"[0-9a-f]{128}"
_ROLE = shape.fields({"keys": shape.listed(shape.text(KEY_ID), 1, 32), "threshold": shape.number(1, 32)})
_ROOT = shape.fields(
    {
        "type": shape.exactly("edgekit-root"),
        "schema": shape.exactly(1),
        "version": shape.number(1),
        "expires": shape.maybe(shape.text(DATE)),
        "keys": shape.mapped(shape.text(KEY_ID), shape.text(_PUBLIC), 1, 64),
        "root": _ROLE,
        "bundle": _ROLE,
        "revoked": shape.listed(shape.text(KEY_ID)),
    }
)
SIGNATURES = shape.mapped(shape.text(KEY_ID), shape.text(_SIGNATURE), 0, 32)
_ENVELOPE = shape.fields({"signed": shape.anything, "signatures": SIGNATURES})


def key_id(public: bytes) -> str:
    """Name of a public key: its SHA-256."""
    return hashlib.sha256(public).hexdigest()


def check_root(envelope: Any, what: str = "root") -> Envelope:
    """Check a root's shape, and that its own threshold signed it.

    Raises:
        Refused: ``format`` or ``signature``.
    """
    _ENVELOPE(envelope, what)
    root = envelope["signed"]
    _ROOT(root, what)
    for name, public in root["keys"].items():
        if key_id(bytes.fromhex(public)) != name:
            raise Refused("format", f"{what}: key {name[:12]} is not what its name says")
    for role in ("root", "bundle"):
        unknown = [name for name in root[role]["keys"] if name not in root["keys"] or name in root["revoked"]]
        if unknown:
            raise Refused("format", f"{what}: role {role!r} names a key that is unknown or revoked: {unknown[0][:12]}")
        if root[role]["threshold"] > len(root[role]["keys"]):
            raise Refused("format", f"{what}: role {role!r} wants more signatures than it has keys")
    require(root, "root", canonical.encode(root), envelope["signatures"], what)
    found: Envelope = envelope
    return found


def require(root: Mapping[str, Any], role: str, message: bytes, signatures: Mapping[str, str], what: str) -> list[str]:
    """Check that a threshold of a role's keys signed a message; return the ids of those that did.

    Raises:
        Refused: ``signature``: says which are missing, foreign, revoked or wrong.
    """
    wanted: int = root[role]["threshold"]
    good, reasons = [], []
    for name, signature in sorted(signatures.items()):
        if name in root["revoked"]:
            reasons.append(f"{name[:12]} is revoked")
        elif name not in root[role]["keys"]:
            reasons.append(f"{name[:12]} is not trusted here")
        elif ed25519.verify(bytes.fromhex(root["keys"][name]), message, bytes.fromhex(signature)):
            good.append(name)
        else:
            reasons.append(f"{name[:12]} did not sign this")
    if len(good) < wanted:
        why = f" ({'; '.join(reasons)})" if reasons else ""
        many = f"{len(good)} of {wanted} signatures hold" if signatures else "is not signed"
        raise Refused("signature", f"{what}: {many}{why}", "sign it with keys that the device's root names")
    return good


def advance(trusted: Envelope, chain: Sequence[Any], now: datetime.date) -> Envelope:
    """Follow a chain of roots, as :func:`follow`, to one that must not have expired.

    Raises:
        Refused: ``signature``, ``format`` or ``expired``.
    """
    newest = follow(trusted, chain)
    not_expired(newest["signed"]["expires"], now, "the device's root", "sign a root with a later date and flash again")
    return newest


def follow(trusted: Envelope, chain: Sequence[Any]) -> Envelope:
    """Follow a chain of roots from the trusted one to the newest; what is older than it is skipped.

    Args:
        trusted: the device's root, checked before.
        chain: roots of ascending versions, not yet checked.

    Raises:
        Refused: ``signature`` or ``format``.
    """
    for offered in chain:
        _ENVELOPE(offered, "root")
        _ROOT(offered["signed"], "root")
        version, have = offered["signed"]["version"], trusted["signed"]["version"]
        if version < have or offered == trusted:
            continue
        name = f"root {version}"
        if version == have:
            if offered["signed"] != trusted["signed"]:
                raise Refused("signature", f"{name} is another one than the device's", "the bundle comes from elsewhere")
            continue
        if version != have + 1:
            raise Refused("signature", f"{name} can't follow root {have}", "hand over every root in between")
        require(
            trusted["signed"], "root", canonical.encode(offered["signed"]), offered["signatures"], f"{name}, by the keys of root {have}"
        )
        trusted = check_root(offered, name)
    return trusted


def not_expired(expires: str | None, now: datetime.date, what: str, hint: str) -> None:
    """Refuse what is past its last day.

    Raises:
        Refused: ``expired``.
    """
    if expires is not None and now > parse_date(expires):
        raise Refused("expired", f"{what} expired on {expires}", hint)


def parse_date(text: str) -> datetime.date:
    """Read a day.

    Raises:
        Refused: ``format``: no such day.
    """
    try:
        if not re.fullmatch(DATE, text):
            raise ValueError(text)
        return datetime.date.fromisoformat(text)
    except ValueError as problem:
        raise Refused("format", f"{text!r} is no day such as 2027-01-31") from problem
