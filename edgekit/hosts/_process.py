"""A model in a process of its own, spoken to over pipes: what every out-of-process host shares.

The process never outlives its session: it is reaped when the session is closed, garbage-collected or interrupted, and when this process
exits; should this process be killed, the runner reads the end of its stream and leaves.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import edgekit.runner
from edgekit.core.artifacts import TensorSpec
from edgekit.core.errors import HostError
from edgekit.core.plugin import RuntimeSettings, Session
from edgekit.hosts._failures import as_error
from edgekit.runner import RunnerError, protocol

if TYPE_CHECKING:
    from edgekit.core.artifacts import Batch

RUNNER = Path(edgekit.runner.__file__).parent
_PATIENCE = 10.0
"""Seconds that a process gets to leave by itself."""
_LAST_WORDS = 2.0
"""Seconds that a process which broke off gets to end, so that its end can be told."""
_SIGNALS = {
    "SIGKILL": "the system may have run out of memory",
    "SIGILL": "the CPU lacks an instruction that the runtime was built with",
    "SIGSEGV": "the runtime can't carry this model; try another runtime or precision",
    "SIGABRT": "the runtime can't carry this model; try another runtime or precision",
}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ProcessSession(Session):
    """A model held by a runner process.

    Args:
        command: what starts the runner.
        environment: the process's environment variables.
        model: the model's main file, by a path that the process can read.
        runtime: the runtime's name.
        settings: threads and precision.
        host: the host's name, for circumstances and messages.
        timeout: seconds without an answer after which the process is given up.

    Raises:
        HostError: the process can't be started, died or did not answer.
        MissingPackageError: the runtime is not installed there.
        SourceError: the runtime can't load the model.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        model: Path,
        runtime: str,
        settings: RuntimeSettings,
        *,
        host: str,
        timeout: float,
    ) -> None:
        self._where = f"{model.name} in {runtime}"
        self._timeout = timeout
        self._process, self._log = _start(command, {**environment, **dict.fromkeys(_THREADS, str(settings.threads))})
        self._reap = weakref.finalize(self, _reap, self._process, self._log)
        try:
            request = {"command": "load", "path": str(model.absolute()), "runtime": runtime}
            header, _ = self._ask({**request, "threads": settings.threads, "precision": settings.precision})
            before, _ = self._ask({"command": "memory"})
        except BaseException:
            self._reap()
            raise
        self.inputs = _specs(header["inputs"])
        self.outputs = _specs(header["outputs"])
        self.circumstances = {**header["circumstances"], "host": host, "runtime_memory": before["before"]}

    def run(self, inputs: Batch) -> Batch:
        """Run the model once.

        Raises:
            HostError: the arrays don't fit the model, or the process died.
            SourceError: the runtime fails on them.
        """
        return self._ask({"command": "run"}, inputs)[1]

    def time(self, inputs: Batch, *, seconds: float, at_least: int) -> list[int]:
        """Run the model again and again on the same inputs; return each call's wall time in nanoseconds."""
        request = {"command": "time", "seconds": seconds, "at_least": at_least}
        laps: list[int] = self._ask(request, inputs, extra=seconds)[1]["nanoseconds"].tolist()
        return laps

    def generate(self, inputs: Batch, **options: Any) -> Batch:
        """Write new tokens behind a prompt."""
        return self._ask({"command": "generate", "options": options}, inputs)[1]

    def peak_memory(self) -> int:
        """Peak resident set of the model's process in bytes; ``circumstances["runtime_memory"]`` is what the runtime alone took."""
        peak: int = self._ask({"command": "memory"})[0]["peak"]
        return peak

    def close(self) -> None:
        """Let go of the model and its process."""
        self._reap()

    def _ask(self, header: dict[str, Any], arrays: Batch | None = None, *, extra: float = 0.0) -> protocol.Frame:
        """Send a command and wait for its answer; a session that was disturbed in between is closed, for its stream is out of step."""
        if not self._reap.alive:
            raise HostError(f"{self._where}: the session is closed", hint="open a new one")
        try:
            pieces = protocol.pack(header, arrays or {})
        except protocol.ProtocolError as problem:
            raise HostError(f"{self._where}: {problem}") from problem
        try:
            answer = _exchange(self._process, pieces, time.monotonic() + self._timeout + extra)
        except TimeoutError as problem:
            self._process.kill()
            self._reap()
            raise HostError(f"{self._where}: no answer within {self._timeout + extra:g} s", hint="raise the host's timeout") from problem
        except protocol.ProtocolError as problem:
            raise self._death(str(problem)) from problem
        except BaseException:
            self._process.kill()
            self._reap()
            raise
        if answer is None:
            raise self._death("it closed its output")
        if "error" in answer[0]:
            raise as_error(RunnerError(**answer[0]["error"]), self._where)
        return answer

    def _death(self, seen: str) -> HostError:
        """Find out how the process ended, close the session and describe it."""
        hint = "edgekit doctor checks the runtimes"
        try:
            status = self._process.wait(timeout=_LAST_WORDS)
            how = f"ended with status {status}"
            if status < 0:
                name = signal.Signals(-status).name
                how, hint = f"was ended by {name}", _SIGNALS.get(name, hint)
        except subprocess.TimeoutExpired:
            how = f"speaks nonsense ({seen})"
            self._process.kill()
        said = _tail(self._log)
        self._reap()
        return HostError(f"{self._where}: the runner's process {how}" + (f": {said}" if said else ""), hint=hint)


def _specs(listed: list[list[Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in listed)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    log = tempfile.TemporaryFile(prefix="edgekit-runner-")  # noqa: SIM115 - closed with the process
    try:
        process = subprocess.Popen([*command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=dict(environment), bufsize=0)
    except OSError as problem:
        log.close()
        raise HostError(f"{command[0]}: can't be started ({problem.strerror})", hint="edgekit doctor checks the hosts") from problem
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
    return process, log


def _exchange(process: subprocess.Popen[bytes], pieces: list[memoryview], deadline: float) -> protocol.Frame | None:
    assert process.stdin is not None
    assert process.stdout is not None
    sink, source = process.stdin.fileno(), process.stdout.fileno()
    try:
        for piece in pieces:
            while len(piece):
                _wait(sink, select.POLLOUT, deadline)
                piece = piece[os.write(sink, piece) :]
    except BrokenPipeError:
        pass  # the process may have answered before it left: read on

    def fill(view: memoryview) -> int:
        _wait(source, select.POLLIN, deadline)
        return os.readv(source, [view])

    return protocol.unpack(fill)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _reap(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """End a runner: it leaves when its input ends, and is killed if it does not."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


def _tail(log: IO[bytes], length: int = 400) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - length))
    lines = log.read().decode("utf-8", "replace").splitlines()
    return " | ".join(line.strip() for line in (lines[1:] if size > length and len(lines) > 1 else lines) if line.strip())
