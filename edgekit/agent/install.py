"""Takes a bundle in: checked before it is stored, stored before it is tried, tried before it is current.

Nothing of a bundle is written before its signatures hold, and nothing of it runs before every file is what was signed.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from . import VERSION, archive, canonical, device, disk, engine, fit, manifest, selftest, trust
from .refusal import Refused
from .slots import Model

_SPARE = 8 << 20
"""Bytes that an update leaves free."""
_EPOCH = datetime.date(2026, 1, 1)
"""A clock that shows an earlier day has not been set, and can't tell what has expired."""

SelfTest = Callable[[Path, Mapping[str, Any]], "dict[str, Any]"]


class Offer(NamedTuple):
    """A bundle that was found trustworthy and fitting.

    Attributes:
        manifest: what it says of itself.
        envelope: its front, as it came.
        present: files that another slot holds already, by path.
        done: whether it is current already.
    """

    manifest: manifest.Manifest
    envelope: archive.Envelope
    present: dict[str, Path]
    done: bool

    @property
    def missing(self) -> dict[str, int]:
        """Digest and size of the files that have to be sent."""
        return {entry["sha256"]: entry["size"] for path, entry in self.manifest.files.items() if path not in self.present}


class Installer:
    """Installs bundles below one folder; the caller holds the lock."""

    def __init__(self, home: Path, *, test: SelfTest = selftest.run, probe: Callable[[Path], dict[str, Any]] = device.probe) -> None:
        self.home = home
        self.incoming = home / "incoming"
        self._test = test
        self._probe = probe
        self._ready: tuple[str, selftest.Trial] | None = None

    def root(self) -> trust.Envelope | None:
        """The root that this device trusts; None before the first."""
        try:
            data = disk.read_small(self.home / "root.json")
        except FileNotFoundError:
            return None
        return trust.check_root(canonical.decode(data, "the device's root"))

    def enrol(self, root: Any) -> None:
        """Trust a root, on a device that trusts none yet or follows it from an older one; an expired one lets in only the next.

        Raises:
            Refused: ``signature``: the device trusts another one.
        """
        known = self.root()
        newest = trust.check_root(root) if known is None else trust.follow(known, [root])
        if newest != known:
            disk.make_folder(self.home)
            disk.replace(self.home / "root.json", canonical.encode(newest))

    def admit(self, envelope: archive.Envelope, *, here: bool = True) -> manifest.Manifest:
        """Check a bundle's front: shape, signatures, expiry, and whether it is for this device.

        Args:
            envelope: the front.
            here: False where this is not the device, but a machine that prepares its disk.

        Raises:
            Refused: why it is not let in.
        """
        disk.guard(self.home)
        found = manifest.parse(envelope.manifest)
        signatures = canonical.decode(envelope.signatures, archive.SIGNATURES)
        trust.SIGNATURES(signatures, archive.SIGNATURES)
        known = self.root()
        if known is None:
            raise Refused("signature", "this device trusts nobody yet", "hand it a root once: edgekit flash --trust ROOT.json")
        root = trust.advance(known, archive.decode_roots(envelope.roots), today())
        label = f"{found.name} {found.version}"
        trust.require(root["signed"], "bundle", found.data, signatures, label)
        if root != known:
            disk.replace(self.home / "root.json", canonical.encode(root))
        if found.content["agent"] > VERSION:
            raise Refused(
                "target", f"{label} needs an agent of version {found.content['agent']}, this is {VERSION}", "flash with a newer edgekit"
            )
        trust.not_expired(found.content["expires"], today(), label, "make the bundle again with a later --expires")
        if here:
            fit.check(found.content, self._probe(self.home))
        return found

    def offer(self, envelope: archive.Envelope, *, here: bool = True) -> Offer:
        """Decide about a bundle from its front alone; as :meth:`admit`, and neither older than what was good nor larger than the disk.

        Raises:
            Refused: why it is not let in.
        """
        found = self.admit(envelope, here=here)
        model = Model.open(self.home, found.name, new=True)
        _not_older(found, model)
        whole = model.intact(found.slot)
        if whole and model.current == found.slot:
            return Offer(found, envelope, {}, done=True)
        model.collect(keep=found.slot if whole else None)
        engine.collect(self.home)
        offer = Offer(found, envelope, _present(found, model, self.home), done=False)
        if self.incoming.exists():
            disk.guard(self.incoming)
            self._tidy(offer)
            disk.remove_empty(self.incoming)
        if not whole:
            self._fits_on_disk(offer)
        return offer

    def rehearse(self, offer: Offer) -> None:
        """Let the runtime be loaded while files are still on their way, where the bundle's runner is the agent that lies here."""
        content = offer.manifest.content
        runner = offer.present.get(content["runner"])
        if runner == self.home / "agent.pyz":
            self.rest()
            self._ready = content["files"][content["runner"]]["sha256"], selftest.Trial(runner, "rehearse", content["runtime"]["name"])

    def rest(self) -> None:
        """End a rehearsal that nothing came of."""
        if self._ready is not None:
            self._ready[1].end()
            self._ready = None

    def received(self, sha256: str) -> int:
        """Bytes of a file that an earlier try has left."""
        for path in (self.incoming / sha256, self.incoming / f"{sha256}.part"):
            try:
                return os.lstat(path).st_size
            except FileNotFoundError:
                continue
        return 0

    def receive(self, sha256: str, size: int, chunks: Iterator[bytes], *, have: int = 0) -> None:
        """Store a file, or the rest of one.

        Args:
            sha256: its digest.
            size: its size.
            chunks: what is sent of it.
            have: bytes in front of that, which are here already.

        Raises:
            Refused: ``format``: it is not what was signed; what came is dropped. ``busy``: what was here is not any more.
        """
        final, part = self.incoming / sha256, self.incoming / f"{sha256}.part"
        if final.exists():
            for _ in chunks:
                continue
            return
        if self.received(sha256) != have:
            raise _overtaken()
        disk.make_folder(self.incoming)
        sha, count = hashlib.sha256(), 0
        try:
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError:
            disk.remove_empty(self.incoming)
            raise
        try:
            while chunk := os.read(handle, disk.CHUNK):
                sha.update(chunk)
                count += len(chunk)
            for chunk in chunks:
                sha.update(chunk)
                count += len(chunk)
                if count > size:
                    break
                disk.write_all(handle, chunk)
            if count == size and sha.hexdigest() == sha256:
                os.fsync(handle)
        finally:
            os.close(handle)
        if count < size:
            raise Refused("format", "the sender stopped in the middle of a file", "flash again; what was sent is kept")
        if count > size or sha.hexdigest() != sha256:
            disk.remove_file(part)
            raise Refused("format", f"a file is not the one that was signed ({sha256[:12]})", "flash again")
        disk.move(part, final)

    def finish(self, offer: Offer, *, activate: bool = True) -> dict[str, Any]:
        """Assemble the slot, test it, and make it current.

        Args:
            offer: whose missing files have all been received.
            activate: False leaves it tested by nobody and not current, for :meth:`activate` on the device itself.

        Raises:
            Refused: ``selftest`` and others; the model that was current still is.
        """
        slot = offer.manifest.slot
        model = Model.open(self.home, offer.manifest.name, new=True)  # anew, for others may have been at work since the offer
        _not_older(offer.manifest, model)
        whole = model.intact(slot)
        if whole and model.current == slot:
            return {"slot": slot, "already": True, "active": True}
        if not whole:
            try:
                self._assemble(offer, model)
            except (Refused, OSError):
                disk.remove_tree(model.slots / f".new-{slot}")
                disk.remove_empty(self.incoming)
                model.vanish()
                raise
            model.note("stored", slot=slot)
        if not activate:
            model.write(model.state._replace(waiting=slot))
            return {"slot": slot, "already": False, "active": False}
        return self.activate(model, slot)

    def activate(self, model: Model, slot: str) -> dict[str, Any]:
        """Test a stored slot on this device and make it current.

        Raises:
            Refused: ``selftest``: it failed and was removed.
        """
        try:
            found = self._try(model.path(slot), model.manifest(slot).content)
        except Refused as problem:
            model.note("refused", slot=slot, why=problem.message)
            if slot not in (model.current, model.state.good, model.state.before):
                disk.remove_tree(model.path(slot))
                model.vanish()
            raise
        runs = engine.prepare(self.home, model.path(slot), model.manifest(slot).content)
        if slot == model.state.good:
            model.retreat(slot, "flashed again")
        else:
            model.switch(slot)
        return {"slot": slot, "already": False, "active": True, "selftest": found, "engine": runs}

    def _try(self, slot: Path, content: Mapping[str, Any]) -> dict[str, Any]:
        if self._ready is None or self._ready[0] != content["files"][content["runner"]]["sha256"]:
            return self._test(slot, content)
        trial, self._ready = self._ready[1], None
        return selftest.run(slot, content, trial)

    def activate_stored(self, name: str) -> dict[str, Any]:
        """Check, test and switch to the slot that was stored and not tried, on the first start of a disk prepared elsewhere.

        Raises:
            Refused: ``state``: there is none, or it is damaged; otherwise as :meth:`offer` and :meth:`activate`.
        """
        model = Model.open(self.home, name)
        slot = model.state.waiting
        if slot is None or slot not in model.stored():
            raise Refused("state", f"nothing of {name!r} waits to be activated", "flash a bundle with --store-only first")
        found = self.admit(archive.Envelope(*(disk.read_small(model.path(slot) / part) for part in archive.ENVELOPE)))
        _not_older(found, model)
        if found.name != name or not model.intact(slot):
            raise Refused("state", f"slot {slot} is damaged", "flash the bundle again")
        return self.activate(model, slot)

    def _assemble(self, offer: Offer, model: Model) -> None:
        found = offer.manifest
        if not all(offer.present.get(path, self.incoming / entry["sha256"]).is_file() for path, entry in found.files.items()):
            raise _overtaken()
        place, work = model.path(found.slot), model.slots / f".new-{found.slot}"
        disk.remove_tree(work)
        disk.make_folder(work)
        moves: dict[Path, Path] = {}
        for path, entry in sorted(found.files.items()):
            target, received = work / path, self.incoming / entry["sha256"]
            disk.make_folder(target.parent)
            source = offer.present.get(path)
            if source is None and received not in moves:
                moves[received] = target
                continue
            disk.write_new(target, disk.read(source or received))
            if disk.sha256(target) != entry["sha256"]:
                raise Refused("format", f"{path} has changed on the device meanwhile", "flash again")
        for name, data in zip(archive.ENVELOPE, offer.envelope):  # noqa: B905 - strict needs Python 3.10
            disk.write_new(work / name, [data])
        for received, target in moves.items():  # last, so that a disk which fills up costs nothing that was sent
            os.rename(received, target)
        disk.flush_folders(work)
        disk.remove_tree(place)
        disk.move(work, place)
        disk.remove_empty(self.incoming)

    def _tidy(self, offer: Offer) -> None:
        """Remove what was sent for other bundles."""
        for path in self.incoming.iterdir():
            size = offer.missing.get(path.name.partition(".")[0], -1)
            if os.lstat(path).st_size > size or not path.is_file() or path.is_symlink():
                disk.remove_tree(path)

    def _fits_on_disk(self, offer: Offer) -> None:
        have = sum(min(self.received(sha256), size) for sha256, size in offer.missing.items())
        needed = offer.manifest.size - have + sum(len(data) for data in offer.envelope) + _SPARE
        if disk.free(self.home) < needed:
            short = (needed - disk.free(self.home) >> 20) + 1
            raise Refused("space", f"{offer.manifest.size >> 20} MB do not fit on the device's disk", f"free {short} MB there")


def install_file(installer: Installer, source: BinaryIO, *, activate: bool = True) -> dict[str, Any]:
    """Install a bundle from a file on the device.

    Raises:
        Refused: why it is not let in.
    """
    offer = installer.offer(archive.read_envelope(source))
    if activate:
        installer.rehearse(offer)
    try:
        for path, chunks in archive.read_files(source, offer.manifest.files):
            entry = offer.manifest.files[path]
            if entry["sha256"] in offer.missing and not offer.done:
                disk.remove_file(installer.incoming / f"{entry['sha256']}.part")
                installer.receive(entry["sha256"], entry["size"], chunks)
            for _ in chunks:
                continue
    except Refused:
        disk.remove_tree(installer.incoming)
        raise
    return installer.finish(offer, activate=activate)


def today() -> datetime.date:
    """Today, UTC.

    Raises:
        Refused: ``expired``: the clock has not been set.
    """
    now = datetime.date(*time.gmtime()[:3])
    if now < _EPOCH:
        raise Refused("expired", f"the device's clock shows {now}, so nobody can tell what has expired", "set the device's clock")
    return now


def _overtaken() -> Refused:
    return Refused("busy", "another flash took its place meanwhile", "flash again")


def _not_older(found: manifest.Manifest, model: Model) -> None:
    floor, digest = model.state.floor, model.state.floor_digest
    if found.version < floor:
        raise Refused(
            "downgrade",
            f"{found.name} {found.version} is older than {floor}, which was good here",
            "bundle it again under a higher version",
        )
    if found.version == floor and found.digest != digest:
        raise Refused("downgrade", f"{found.name} {floor} was good here with another content", "give each bundle a version of its own")


def _present(found: manifest.Manifest, model: Model, home: Path) -> dict[str, Path]:
    """Files that are on the device already, with the right content: in a slot of this model, or the agent itself."""
    wanted: dict[str, list[str]] = {}
    for path, entry in found.files.items():
        wanted.setdefault(entry["sha256"], []).append(path)
    here: dict[str, Path] = {}
    agent, runner = home / "agent.pyz", found.content["runner"]
    if agent.is_file() and disk.sha256(agent) == found.files[runner]["sha256"]:
        here.update(dict.fromkeys(wanted[found.files[runner]["sha256"]], agent))
    for slot in model.stored():
        try:
            listed = model.manifest(slot).files
        except (OSError, Refused):
            continue
        for path, entry in listed.items():
            source, sha256 = model.path(slot) / path, entry["sha256"]
            if sha256 in wanted and wanted[sha256][0] not in here and source.is_file() and disk.sha256(source) == sha256:
                here.update(dict.fromkeys(wanted[sha256], source))
    return here
