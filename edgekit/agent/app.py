"""What an application does: open the current model, say that it is good, notice a newer one. Needs NumPy and the model's runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..runner import Runtime, load  # noqa: TID252 - the two travel together, under whatever name
from . import disk, engine, slots
from .refusal import Refused


class Application:
    """A model on this device, as the program that uses it sees it.

    Attributes:
        folder: the slot in use; it stays whole while it is used, whatever is flashed meanwhile.
        io: ``io.json``: inputs, preprocessing, outputs.
        labels: class names, if the model has any.
    """

    def __init__(self, home: str, name: str) -> None:
        self.home = Path(home).expanduser()
        self.name = name
        self.folder = Path()
        self.io: dict[str, Any] = {}
        self.labels: list[str] = []
        self._good = False

    def open(self) -> Runtime:
        """Count a start and load the current model in its runtime.

        Raises:
            Refused: ``state``: there is none.
            RunnerError: it does not load.
        """
        self.folder = slots.start(self.home, self.name)
        self._good = False
        self.io = json.loads((self.folder / "io.json").read_text(encoding="utf-8"))
        labels = self.folder / "labels.txt"
        self.labels = labels.read_text(encoding="utf-8").splitlines() if labels.is_file() else []
        content = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        runtime = content["runtime"]
        return load(self.folder / content["model"], runtime["name"], threads=runtime["threads"], precision=runtime["precision"])

    @property
    def engine(self) -> Path | None:
        """The TensorRT engine that was built and found right for this model on this device; None where there is none."""
        found = engine.used(self.folder)
        return self.home / found if found and engine.exists(self.home, found) else None

    def replaced(self) -> bool:
        """Whether another model has become current since this one was opened; one system call."""
        return os.readlink(self.home / "models" / self.name / "current") != f"slots/{self.folder.name}"

    def mark_good(self) -> bool:
        """Take the opened model for good; False while an update is at work, then try again. Costs nothing once it has succeeded."""
        if self._good or self.replaced():
            return self._good
        try:
            with disk.alone(self.home / "lock", wait=0):
                self._good = slots.Model.open(self.home, self.name).approve(self.folder.name)
        except Refused as problem:
            if problem.kind != "busy":
                raise
        return self._good
