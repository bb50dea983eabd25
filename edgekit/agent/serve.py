"""The agent as the other end of a connection: answers frames until the stream ends; nothing listens on a network."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from . import VERSION, archive, device, disk, wire
from .install import Installer, Offer
from .refusal import Refused
from .slots import Model

Answer = dict[str, Any]
PATIENCE = 120.0
"""Seconds without a byte from the host after which it is taken for gone."""


def serve(home: Path, source: BinaryIO | wire.Line, sink: BinaryIO, installer: Installer | None = None) -> int:
    """Carry out commands for a host.

    Files that a host sends are not acknowledged one by one, since that would cost a round trip each: what is wrong with one is told
    and ends the service, and the host reads it when its next write fails or its next question is answered.
    """
    service = Service(home, source, installer or Installer(home))
    try:
        while (frame := wire.receive(source)) is not None:
            try:
                answer = service.answer(*frame)
            except Refused as problem:
                answer = _refusal(problem)
            except OSError as problem:
                answer = _refusal(disk.refusal(problem))
            except Exception as problem:  # noqa: BLE001 - the host must get an answer, whatever happened
                sys.excepthook(type(problem), problem, problem.__traceback__)
                answer = _refusal(Refused("internal", f"{type(problem).__name__}: {problem}"))
            if answer is not None:
                wire.send(sink, answer)
                sink.flush()
            if service.over:
                return 0
    except (wire.WireError, BrokenPipeError) as problem:
        sys.stderr.write(f"the connection broke off ({problem})\n")
        return 1
    return 0


def _refusal(problem: Refused) -> Answer:
    return {"refused": {"kind": problem.kind, "message": problem.message, "hint": problem.hint}}


class Service:
    """Carries out commands; whatever may change something, under the device's lock."""

    def __init__(self, home: Path, source: BinaryIO | wire.Line, installer: Installer) -> None:
        self.over = False
        self._home = home
        self._source = source
        self._offer: Offer | None = None
        self._installer = installer
        self._commands: dict[str, Callable[[dict[str, Any]], Answer | None]] = {
            "probe": self._probe,
            "trust": self._trust,
            "offer": self._receive_offer,
            "file": self._receive_file,
            "finish": self._finish,
            "activate": self._activate,
            "approve": self._approve,
            "back": self._back,
            "status": self._status,
        }

    def answer(self, header: dict[str, Any], body: bytes) -> Answer | None:
        """Carry out one command.

        Raises:
            Refused: why not.
        """
        del body
        command = self._commands.get(str(header.get("command")))
        if command is None:
            raise Refused("format", f"unknown command {header.get('command')!r}", "let agent and edgekit be of one version")
        if command in (self._probe, self._status):
            return command(header)
        disk.make_folder(self._home)
        with disk.alone(self._home / "lock"):
            return command(header)

    def _probe(self, header: dict[str, Any]) -> Answer:
        del header
        root = self._installer.root()
        return {**device.probe(self._home), "agent": VERSION, "home": str(self._home), "root": root, "models": status(self._home)}

    def _trust(self, header: dict[str, Any]) -> Answer:
        self._installer.enrol(header["root"])
        return {}

    def _receive_offer(self, header: dict[str, Any]) -> Answer:
        envelope = archive.Envelope(*(header[name].encode("ascii") for name in ("manifest", "roots", "signatures")))
        self._offer = self._installer.offer(envelope, here=header["here"])
        if header["here"]:
            self._installer.rehearse(self._offer)
        have = {sha256: self._installer.received(sha256) for sha256 in self._offer.missing}
        return {"missing": have, "done": self._offer.done, "slot": self._offer.manifest.slot}

    def _receive_file(self, header: dict[str, Any]) -> None:
        offer, sha256 = self._offered(), header["sha256"]
        if sha256 not in offer.missing:
            raise Refused("format", "a file that nobody asked for", "flash again")
        try:
            size = offer.missing[sha256]
            self._installer.receive(sha256, size, self._chunks(header["size"]), have=size - header["size"])
        except BaseException:
            self.over = True  # where the next frame starts can't be known
            raise

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size > 0:
            frame = wire.receive(self._source)
            if frame is None:
                raise wire.WireError("the stream ended within a file")
            size -= len(frame[1])
            yield frame[1]

    def _finish(self, header: dict[str, Any]) -> Answer:
        offer, began = self._offered(), time.monotonic()
        found = self._installer.finish(offer, activate=header["activate"])
        if header.get("approve") and found["active"]:
            Model.open(self._home, offer.manifest.name).approve(found["slot"])
        return {**found, "models": status(self._home), "seconds": round(time.monotonic() - began, 4)}

    def _activate(self, header: dict[str, Any]) -> Answer:
        return self._installer.activate_stored(header["name"])

    def _approve(self, header: dict[str, Any]) -> Answer:
        model = Model.open(self._home, header["name"])
        model.approve()
        return {"slot": model.current}

    def _back(self, header: dict[str, Any]) -> Answer:
        return {"slot": Model.open(self._home, header["name"]).back()}

    def _status(self, header: dict[str, Any]) -> Answer:
        del header
        return {"models": status(self._home)}

    def _offered(self) -> Offer:
        if self._offer is None:
            raise Refused("format", "nothing was offered", "offer a bundle first")
        return self._offer


def status(home: Path) -> dict[str, Any]:
    """What is on a device, by model; reads only."""
    found: dict[str, Any] = {}
    folder = home / "models"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        model = Model(path)
        try:
            current = model.current
            state = model.read_state()
            content = model.manifest(current).content if current else None
            runtime = content["runtime"] if content else None
            stored, journal = list(model.stored()), model.journal(5)
        except (OSError, Refused) as problem:
            found[path.name] = {"problem": str(problem)}
            continue
        found[path.name] = {
            "current": current,
            "version": content["version"] if content else None,
            "label": content["label"] if content else None,
            "file": content["model"] if content else None,
            **({"runtime": runtime["name"], "threads": runtime["threads"], "precision": runtime["precision"]} if runtime else {}),
            "state": "none" if current is None else "good" if current == state.good else "on trial",
            "starts": state.starts,
            "good": state.good,
            "before": state.before,
            "stored": stored,
            "journal": journal,
        }
    return found
