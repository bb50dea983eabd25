"""One model's slots on a device, which of them is current, and how far back it can go.

::

    HOME/models/NAME/current -> slots/7-1f3c...     what applications open; replaced in one step
                     slots/VERSION-DIGEST/          one bundle, complete and flushed before it has this name
                     state.json                     replaced in one step
                     journal.jsonl                  what happened, one line each

The link is the truth about what runs, the state about what is good. They are changed one after the other, so whoever opens a model
first mends what a power cut left in between (:meth:`Model.open`). There are up to three slots, not two: a new bundle must never
overwrite the last good one while an untried one is current.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import disk, manifest
from .refusal import Refused

STARTS = 3
"""Starts without being marked good after which a model is given up."""
_JOURNAL_LIMIT = 1 << 17


class State(NamedTuple):
    """What the agent remembers of a model.

    Attributes:
        good: slot that an application or an operator found good; None before the first.
        before: slot that was good before that one.
        trial: current slot that nobody has found good yet.
        starts: starts of it so far.
        floor: highest version that was ever good; older ones are not let in again.
        floor_digest: digest of that version's manifest.
        waiting: slot that was stored for later and not tried yet.
    """

    good: str | None = None
    before: str | None = None
    trial: str | None = None
    starts: int = 0
    floor: int = 0
    floor_digest: str = ""
    waiting: str | None = None


class Model:
    """The folder of one model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slots = folder / "slots"
        self.link = folder / "current"
        self.state = State()

    @classmethod
    def open(cls, home: Path, name: str, *, new: bool = False) -> Model:
        """Open a model's folder and mend what a power cut left; the caller holds the lock.

        Args:
            home: the device's folder.
            name: the model's.
            new: it may not be there yet; nothing is made for it before there is something to store.

        Raises:
            Refused: ``state`` when there is no such model or its state is damaged, ``unsafe`` for folders that others may write.
        """
        if not re.fullmatch(manifest.NAME, name):
            raise Refused("state", f"{name!r} is no name of a model", "lower-case letters, digits and dashes")
        model = cls(home / "models" / name)
        if not model.slots.is_dir() and not new:
            raise Refused("state", f"no model {name!r} on this device", "edgekit devices lists them")
        for place in (home, model.folder.parent, model.folder, model.slots, *model._folders()):
            if os.path.lexists(place):
                disk.guard(place)
        model.state = model.read_state()
        model._mend()
        return model

    @property
    def current(self) -> str | None:
        """Name of the slot that applications open; None before the first."""
        try:
            target = os.readlink(self.link)
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise Refused("unsafe", f"{self.link} is no link", "remove it and flash again") from problem
        folder, _, slot = target.rpartition("/")
        if folder != "slots" or not slot or slot.startswith("."):
            raise Refused("unsafe", f"{self.link} leads out of the model's folder", "remove it and flash again")
        return slot

    def path(self, slot: str) -> Path:
        """Folder of a slot."""
        return self.slots / slot

    def manifest(self, slot: str) -> manifest.Manifest:
        """The manifest that a slot was made from."""
        return manifest.parse(disk.read_small(self.path(slot) / "manifest.json"))

    def stored(self) -> Iterator[str]:
        """Names of the complete slots."""
        for path in self._folders():
            if not path.name.startswith("."):
                yield path.name

    def intact(self, slot: str) -> bool:
        """Whether a slot holds exactly what its manifest lists, of the right content."""
        try:
            wanted = self.manifest(slot)
            return wanted.slot == slot and all(disk.sha256(self.path(slot) / n) == e["sha256"] for n, e in wanted.files.items())
        except (OSError, Refused):
            return False

    def switch(self, slot: str) -> None:
        """Make a tested slot current, on trial."""
        self.write(self.state._replace(trial=slot, starts=0, waiting=None))
        disk.relink(self.link, f"slots/{slot}")
        self.note("switched", slot=slot)

    def approve(self, slot: str | None = None) -> bool:
        """Take the current slot for good; nothing older is let in from now on.

        Args:
            slot: the one that is meant; if another has become current meanwhile, nothing happens and False is returned.
        """
        current = self._needed()
        if slot not in (None, current):
            return False
        slot = current
        found = self.manifest(slot)
        if self.state.good == slot:
            if self.state.trial is not None:
                self.write(self.state._replace(trial=None, starts=0))
            return True
        floor, digest = max((self.state.floor, self.state.floor_digest), (found.version, found.digest))
        self.write(State(good=slot, before=self.state.good, floor=floor, floor_digest=digest, waiting=self.state.waiting))
        self.note("good", slot=slot)
        return True

    def start(self) -> str:
        """Count a start of the current slot and return the slot to use; one that has failed too often is given up first."""
        slot = self._needed()
        if self.state.trial != slot:
            return slot
        if self.state.starts >= STARTS and self.state.good is not None:
            self.retreat(self.state.good, f"{STARTS} starts without being marked good")
            return self.state.good
        self.write(self.state._replace(starts=self.state.starts + 1))
        return slot

    def back(self) -> str:
        """Return to the last good slot, or to the one before if the current one is good; return its name.

        Raises:
            Refused: ``state``: there is none, or it is damaged.
        """
        slot = self._needed()
        target = self.state.good if slot != self.state.good else self.state.before
        if target is None:
            raise Refused("state", "there is no earlier good model to return to", "flash one")
        if not self.intact(target):
            raise Refused("state", f"slot {target} is damaged", "flash a bundle again")
        self.retreat(target, "asked for")
        return target

    def retreat(self, target: str, why: str) -> None:
        """Make an earlier good slot current again.

        Raises:
            Refused: ``space``: it is current, but that it is good could not be written down.
        """
        left = self.current
        disk.relink(self.link, f"slots/{target}")
        before = self.state.before if target == self.state.good else None
        try:
            self.write(self.state._replace(good=target, before=before, trial=None, starts=0))
        except OSError as problem:
            if not disk.is_full(problem):
                raise
            message = f"{self.folder.name} is back at {target}, but the device's disk is full"
            raise Refused("space", message, "free some space; if it is shown on trial then, mark it good") from problem
        self.note("returned", slot=target, left=left, why=why)

    def collect(self, *, keep: str | None = None) -> list[str]:
        """Remove the slots that are neither current nor good nor to be kept, and whatever is half made; return their names."""
        kept = {self.current, self.state.good, self.state.before, keep}
        gone = [path.name for path in self._folders() if path.name not in kept]
        for name in gone:
            aside = self.slots / f".old-{name.lstrip('.')}"
            if not name.startswith("."):
                os.rename(self.slots / name, aside)
                name = aside.name
            disk.remove_tree(self.slots / name)
        return [name for name in gone if not name.startswith(".")]

    def vanish(self) -> None:
        """Remove the model's folder if nothing was ever let in; a refused first bundle leaves nothing behind."""
        if self.state._replace(waiting=None) == State() and self.current is None and not self._folders():
            disk.remove_tree(self.folder)
            disk.remove_empty(self.folder.parent)

    def write(self, state: State) -> None:
        """Remember a state."""
        disk.replace(self.folder / "state.json", json.dumps({"schema": 1, **state._asdict()}, sort_keys=True).encode() + b"\n")
        self.state = state

    def note(self, event: str, **details: Any) -> None:
        """Add a line to the journal, unless the disk is full; a long journal loses its older half."""
        try:
            self._write_note({"event": event, **details})
        except OSError as problem:
            if not disk.is_full(problem):
                raise

    def _write_note(self, event: dict[str, Any]) -> None:
        path = self.folder / "journal.jsonl"
        lines = disk.read_small(path, 2 * _JOURNAL_LIMIT) if path.exists() else b""
        if len(lines) > _JOURNAL_LIMIT:
            kept = lines[len(lines) // 2 :].partition(b"\n")[2]
            disk.replace(path, kept)
            lines = kept
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": stamp, **event}, sort_keys=True).encode() + b"\n"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            disk.write_all(handle, line if lines.endswith(b"\n") or not lines else b"\n" + line)
            os.fsync(handle)
        finally:
            os.close(handle)

    def journal(self, last: int = 50) -> list[dict[str, Any]]:
        """The latest events; a line that a power cut tore is left out."""
        path = self.folder / "journal.jsonl"
        found = []
        for line in disk.read_small(path, 2 * _JOURNAL_LIMIT).splitlines() if path.exists() else []:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found[-last:]

    def _folders(self) -> list[Path]:
        """Slots, complete or not."""
        return sorted(self.slots.iterdir()) if self.slots.is_dir() else []

    def _needed(self) -> str:
        slot = self.current
        if slot is None:
            raise Refused("state", f"{self.folder.name} has no current model", "flash one")
        return slot

    def read_state(self) -> State:
        """What was remembered, as it stands on the disk; damaged is refused, missing is the beginning."""
        try:
            content = json.loads(disk.read_small(self.folder / "state.json"))
            del content["schema"]
            return State(**content)
        except FileNotFoundError:
            return State()
        except (ValueError, TypeError, KeyError) as problem:
            raise Refused(
                "state", f"{self.folder}/state.json is damaged", "the link 'current' still works; flash again after removing it"
            ) from problem

    def _mend(self) -> None:
        current, state = self.current, self.state
        if current is not None and not self.path(current).is_dir():
            current = None
        if current is None and state.good is not None and self.path(state.good).is_dir():
            disk.relink(self.link, f"slots/{state.good}")
            self.note("mended", slot=state.good)
            current = state.good
        trial = current if current != state.good else None
        if state.trial != trial:
            self.write(state._replace(trial=trial, starts=0))


def start(home: Path, name: str) -> Path:
    """Count a start of a model and return the folder to use.

    It is not counted while an update is at work, nor where nothing can be written: a full or read-only disk, another user's folder.

    Raises:
        Refused: ``state``: no such model.
    """
    try:
        with disk.alone(home / "lock", wait=0):
            model = Model.open(home, name)
            return model.path(model.start())
    except Refused as problem:
        if problem.kind not in ("busy", "space"):
            raise
    except OSError:
        pass
    model = Model(home / "models" / name)
    return model.path(model._needed())
