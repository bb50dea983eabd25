"""What an application does: open the current model, say that it is good, notice a newer one. Needs NumPy and the model's runtime."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
from pathlib import Path
from typing import Any

from .. import runner  # noqa: TID252 - the two travel together, under whatever name
from ..runner import Runtime, load  # noqa: TID252
from . import disk, engine, slots
from .refusal import Refused

for _module in pkgutil.walk_packages(runner.__path__, f"{runner.__name__}."):
    importlib.import_module(_module.name)  # all of it now: agent.pyz may be another file when a model is opened again


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
        """Count a start and load the current model in its runtime; if that fails, the one that was opened before stays in use.

        Raises:
            Refused: ``state``: there is none.
            RunnerError: it does not load.
        """
        folder = slots.start(self.home, self.name)
        io = json.loads((folder / "io.json").read_text(encoding="utf-8"))
        names = folder / "labels.txt"
        labels = names.read_text(encoding="utf-8").splitlines() if names.is_file() else []
        content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        runtime = content["runtime"]
        model = load(folder / content["model"], runtime["name"], threads=runtime["threads"], precision=runtime["precision"])
        self.folder, self.io, self.labels, self._good = folder, io, labels, False
        return model

    @property
    def engine(self) -> Path | None:
        """The TensorRT engine that was built and found right for this model on this device; None where there is none."""
        found = engine.used(self.folder)
        return self.home / found if found and engine.exists(self.home, found) else None

    def replaced(self) -> bool:
        """Whether another model has become current since this one was opened; one system call."""
        return os.readlink(self.home / "models" / self.name / "current") != f"slots/{self.folder.name}"

    def mark_good(self) -> bool:
        """Take the opened model for good; costs nothing once it has succeeded.

        False while an update is at work or nothing can be written, then try again.
        """
        if self._good or self.replaced():
            return self._good
        try:
            with disk.alone(self.home / "lock", wait=0):
                self._good = slots.Model.open(self.home, self.name).approve(self.folder.name)
        except Refused as problem:
            if problem.kind != "busy":
                raise
        except OSError:
            return False
        return self._good
