"""The runner as a process of its own: answers frames on its standard input until it is told to close or the stream ends."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import memory, protocol
from .contract import RunnerError, Runtime
from .runtimes import admit, opened

Answer = tuple[dict[str, Any], dict[str, np.ndarray]]


def main() -> int:
    """Serve standard input and output.

    Whatever else writes to standard output (a chatty library) is sent to standard error, so that it can't disturb the frames.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        sys.stderr.write("This is edgekit's model runner. It speaks frames on stdin and stdout and is started by edgekit.\n")
        return 2
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the asker as well, who then closes the stream
    return serve(source, sink)


def serve(source: int, sink: int) -> int:
    """Answer frames from one file descriptor on another; return the exit status.

    A malformed frame is answered with an error and ends the service, because where the next one starts can't be known.
    """
    service = Service()
    try:
        while True:
            try:
                frame = protocol.unpack(lambda view: os.readv(source, [view]))
            except protocol.ProtocolError as problem:
                _send(sink, _error(RunnerError("internal", f"malformed frame: {problem}")))
                return 1
            if frame is None:
                return 0
            _send(sink, service.answer(*frame))
            if frame[0].get("command") == "close":
                return 0
    except BrokenPipeError:
        return 0  # the asker is gone, so nobody waits for an answer
    finally:
        service.close()


class Service:
    """Holds at most one loaded model and carries out commands on it."""

    def __init__(self) -> None:
        self._model: Runtime | None = None
        self._before = 0
        self._commands: dict[str, Callable[[dict[str, Any], dict[str, np.ndarray]], Answer]] = {
            "load": self._load,
            "run": self._run,
            "time": self._time,
            "generate": self._generate,
            "memory": self._memory,
            "close": lambda header, arrays: ({}, {}),
        }

    def answer(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Answer:
        """Carry out one command; what goes wrong becomes an answer too."""
        command = self._commands.get(str(header.get("command")))
        if command is None:
            return _error(RunnerError("internal", f"unknown command {header.get('command')!r}"))
        try:
            return command(header, arrays)
        except RunnerError as problem:
            return _error(problem)
        except Exception as problem:  # noqa: BLE001 - the asker must get an answer, whatever happened
            traceback.print_exc()
            return _error(RunnerError("internal", f"{type(problem).__name__}: {problem}"))

    def close(self) -> None:
        """Let go of the model."""
        if self._model is not None:
            self._model.close()
            self._model = None

    def _load(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Answer:
        del arrays
        self.close()
        path, threads, precision = Path(header["path"]), header["threads"], header["precision"]
        kind = admit(path, header["runtime"], threads, precision)
        kind.library()
        self._before = memory.peak()
        self._model = opened(kind, path, threads, precision)
        return {"inputs": self._model.inputs, "outputs": self._model.outputs, "circumstances": self._model.circumstances}, {}

    def _run(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Answer:
        del header
        return {}, self._loaded().run(arrays)

    def _time(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Answer:
        return {}, {"nanoseconds": self._loaded().time(arrays, header["seconds"], header["at_least"])}

    def _generate(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Answer:
        return {}, self._loaded().generate(arrays, header["options"])

    def _memory(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Answer:
        del header, arrays
        return {"peak": memory.peak(), "before": self._before}, {}

    def _loaded(self) -> Runtime:
        if self._model is None:
            raise RunnerError("internal", "no model is loaded")
        return self._model


def _error(problem: RunnerError) -> Answer:
    return {"error": {"kind": problem.kind, "message": problem.message, "hint": problem.hint}}, {}


def _send(sink: int, answer: Answer) -> None:
    try:
        pieces = protocol.pack(*answer)
    except protocol.ProtocolError as problem:
        pieces = protocol.pack(*_error(RunnerError("model", f"an output can't be returned ({problem})")))
    for piece in pieces:
        while len(piece):
            piece = piece[os.write(sink, piece) :]
