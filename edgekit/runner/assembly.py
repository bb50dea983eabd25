"""A model of several graphs: a small JSON file names the graphs and the program that runs them.

::

    {"assembly": 1, "program": "decoder", "settings": {...}, "components": {"prefill": "prefill/model.onnx", "decode": "decode/model.onnx"}}

To whoever loads it, it is a model like any other: it has inputs and outputs, runs, and can be timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .contract import Arrays, RunnerError, Runtime, not_loadable
from .program import Program
from .programs import program_class

SUFFIX = ".json"
VERSION = 1


def read(path: Path) -> dict[str, Any]:
    """Read an assembly; the components' paths become absolute.

    Raises:
        RunnerError: ``model``: not an assembly of this version, or a component that does not lie below its folder.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, files = content["assembly"], dict(content["components"])
        program, settings = str(content["program"]), dict(content["settings"])
    except (ValueError, KeyError, TypeError) as problem:
        raise not_loadable(path, problem) from problem
    if version != VERSION:
        raise RunnerError("model", f"{path.name}: is an assembly of version {version}, this runner reads {VERSION}")
    root = path.parent.resolve()
    components = {name: root / file for name, file in files.items()}
    for name, file in components.items():
        if root not in file.resolve().parents or not file.is_file():
            raise RunnerError("model", f"{path.name}: component {name!r} ({files[name]}) does not lie beside it")
    return {"program": program, "settings": settings, "components": components}


class Assembly(Runtime):
    """The graphs, each loaded in one runtime, and their program."""

    def __init__(self, program: Program, parts: Mapping[str, Runtime]) -> None:
        self.program = program
        self._parts = parts
        self.inputs = program.inputs
        self.outputs = program.outputs
        self.circumstances = {**next(iter(parts.values())).circumstances, "components": len(parts)}

    @classmethod
    def load(cls, path: Path, threads: int, precision: str) -> Assembly:
        """Not to be called: an assembly is loaded in a runtime, by :meth:`of`."""
        raise RunnerError("internal", f"{path.name}: an assembly needs a runtime")

    @classmethod
    def of(cls, kind: type[Runtime], path: Path, threads: int, precision: str) -> Assembly:
        """Load an assembly's graphs in a runtime."""
        content = read(path)
        parts = {name: kind.load(file, threads, precision) for name, file in content["components"].items()}
        return cls(program_class(content["program"])(parts, content["settings"]), parts)

    def run(self, inputs: Arrays) -> Arrays:
        """Run the program once.

        Raises:
            RunnerError: as any runtime's.
        """
        return self.program.run(self.check(inputs))

    def prepare(self, feed: Arrays) -> Callable[[], Any]:
        """Return what the program wants to be timed by."""
        return lambda: self.program.timed(feed)

    def collect(self, result: Any) -> list[np.ndarray]:
        """The program's arrays are its own."""
        return [result[spec.name] for spec in self.outputs]

    def generate(self, inputs: Arrays, options: Mapping[str, Any]) -> Arrays:
        """Let the program write new tokens behind a prompt."""
        return self.program.generate(inputs, options)

    def close(self) -> None:
        """Let go of every graph."""
        for part in self._parts.values():
            part.close()
