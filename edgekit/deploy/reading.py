"""Reads bundles on the host, with the very code that devices trust."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edgekit.agent import archive, canonical, manifest, trust
from edgekit.agent.install import today
from edgekit.agent.refusal import Refused
from edgekit.core.errors import BundleError
from edgekit.core.schema import Schema


@dataclass(frozen=True)
class Bundle:
    """An open bundle whose shape has been checked; its signatures have not."""

    envelope: archive.Envelope
    manifest: manifest.Manifest
    source: BinaryIO
    start: int

    @property
    def signatures(self) -> dict[str, str]:
        """Signature by key id."""
        found = canonical.decode(self.envelope.signatures, archive.SIGNATURES)
        trust.SIGNATURES(found, archive.SIGNATURES)
        return found

    @property
    def roots(self) -> list[Any]:
        """The chain of roots that travels with it."""
        return archive.decode_roots(self.envelope.roots)

    def read(self, path: str, offset: int = 0, at_once: int = archive.CHUNK) -> Iterator[bytes]:
        """Yield a file's bytes from an offset on; their digest is checked by whoever takes them."""
        self.source.seek(self._position(path) + offset)
        left = self.manifest.files[path]["size"] - offset
        while left > 0:
            chunk = self.source.read(min(left, at_once))
            if not chunk:
                raise BundleError("the bundle is cut short", hint="copy it again")
            left -= len(chunk)
            yield chunk

    def check_files(self) -> None:
        """Read every file and compare it with the manifest.

        Raises:
            Refused: a file that is not what was signed, or something besides.
        """
        self.source.seek(self.start)
        for _, chunks in archive.read_files(self.source, self.manifest.files):
            for _ in chunks:
                continue

    def _position(self, wanted: str) -> int:
        place = self.start
        for path in sorted(self.manifest.files):
            place += archive.BLOCK
            if path == wanted:
                return place
            size = self.manifest.files[path]["size"]
            place += size + -size % archive.BLOCK
        raise KeyError(wanted)


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a bundle.

    Raises:
        BundleError: no such file, or no bundle.
    """
    try:
        with path.open("rb") as source:
            envelope = archive.read_envelope(source)
            yield Bundle(envelope, manifest.parse(envelope.manifest), source, source.tell())
    except Refused as problem:
        raise BundleError(f"{path.name}: {problem.message}", hint=problem.hint) from problem
    except OSError as problem:
        if problem.filename != str(path):
            raise
        raise BundleError(f"{path}: {problem.strerror or problem}", hint="give the path of a bundle") from problem


class Verified(Schema):
    """What a bundle is, after everything in it has been checked."""

    name: str
    version: int
    label: str | None
    target: dict[str, Any]
    runtime: dict[str, Any]
    expires: str | None
    signed_by: tuple[str, ...]
    threshold: int
    root: int
    files: int
    size: int
    digest: str


def verify(path: Path, root: Any, newer: Sequence[Any] = ()) -> Verified:
    """Check signatures, expiry and every byte of a bundle; nothing is unpacked.

    Args:
        path: the bundle.
        root: the signed root to start from; the bundle itself has to lead on from there.
        newer: roots that devices may have reached meanwhile; the signatures have to hold for them as well.

    Raises:
        BundleError: the first thing that is wrong.
    """
    with open_bundle(path) as bundle:
        found = bundle.manifest
        label = f"{found.name} {found.version}"
        known = trust.check_root(root)
        for chain in (bundle.roots, newer):
            known = trust.advance(known, chain, today())
            signers = trust.require(known["signed"], "bundle", found.data, bundle.signatures, label)
        trust.not_expired(found.content["expires"], today(), label, "make the bundle again with a later --expires")
        bundle.check_files()
    return Verified(
        name=found.name,
        version=found.version,
        label=found.content["label"],
        target=found.content["target"],
        runtime=found.content["runtime"],
        expires=found.content["expires"],
        signed_by=tuple(signers),
        threshold=known["signed"]["bundle"]["threshold"],
        root=known["signed"]["version"],
        files=len(found.files),
        size=found.size,
        digest=found.digest,
    )
