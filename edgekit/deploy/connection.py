"""A device at the other end of a transport: brings the agent there if it is not, and speaks with it."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import urlsplit

from edgekit.agent import wire
from edgekit.core.errors import BundleError, DeviceError, EdgekitError, SelfTestError, TargetError, closest
from edgekit.core.registry import load, names
from edgekit.core.transport import Transport
from edgekit.deploy.agent_file import NAME, agent_file

_SCRIPT = """umask 022
d={folder}
a="$d/{name}"
{there}
case "$(sha256sum "$a" 2>/dev/null)" in {digest}*) ;; *)
  mkdir -p "$d" && echo need && head -c {size} >"$a.$$" || exit 41
  case "$(sha256sum "$a.$$")" in {digest}*) ;; *) rm -f "$a.$$"; exit 42 ;; esac
  sync "$a.$$" 2>/dev/null; mv -f "$a.$$" "$a" || exit 41
;; esac
{ready}
EDGEKIT_PYTHON={words}
export EDGEKIT_PYTHON
exec {python} "$a" --home "$d" {command}
"""
"""What runs on the device before the agent does: nothing but a POSIX shell and coreutils (or busybox) is needed for it."""
_NOBODY = 43
"""Status of that script where no agent is, and one should be."""


def open_transport(url: str) -> Transport:
    """Make the transport that a URL names.

    Raises:
        TargetError: an unknown scheme, or a URL that lacks something.
    """
    try:
        parts = urlsplit(url)
    except ValueError as problem:
        raise TargetError(f"{url}: {problem}", hint="write ssh://user@host[:port][/folder] or dir:///folder") from problem
    if parts.scheme not in names(Transport):
        raise TargetError(f"{url}: no way to a device is called {parts.scheme!r}", hint=closest(parts.scheme, names(Transport)))
    return load(Transport, parts.scheme).of_url(parts)


def script(transport: Transport, command: str = "serve", *, announce: bool = True, known: bool = False) -> str:
    """The shell script that makes sure of the agent and starts a command of it.

    Args:
        transport: the way to the device.
        command: the agent's.
        announce: say ``ready`` before.
        known: end where no agent of any version is, instead of bringing one.
    """
    agent = agent_file()
    return _SCRIPT.format(
        folder=shlex.quote(transport.folder),
        name=NAME,
        digest=hashlib.sha256(agent).hexdigest(),
        size=len(agent),
        there=f'[ -e "$a" ] || exit {_NOBODY}' if known else ":",
        python=shlex.quote(transport.python),
        words=shlex.quote(shlex.quote(transport.python)),  # the agent takes it apart once more
        command=command,
        ready="echo ready" if announce else ":",
    )


class Connection:
    """An agent that answers; ``sent`` counts bytes since the last flash, the agent itself included.

    Args:
        transport: the way to it.
        name: for messages.
        known: as in :func:`script`.

    Raises:
        DeviceError: it can't be reached.
    """

    def __init__(self, transport: Transport, name: str, *, known: bool = False) -> None:
        self.name = name
        self.transport = transport
        self.sent = 0
        self._log: IO[bytes] = tempfile.TemporaryFile(prefix="edgekit-device-")  # noqa: SIM115 - closed with the connection
        try:
            self._process = subprocess.Popen(
                transport.shell(script(transport, known=known)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
            )
        except OSError as problem:
            self._log.close()
            raise DeviceError(
                f"{name}: {problem.filename or 'ssh'} can't be started ({problem.strerror})", hint="install OpenSSH's client"
            ) from problem
        self._sink = cast("BinaryIO", self._process.stdin)
        self._source = cast("BinaryIO", self._process.stdout)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def ask(self, command: str, **words: Any) -> dict[str, Any]:
        """Send a command and return the agent's answer.

        Raises:
            DeviceError: the connection broke off.
            BundleError: the agent refuses.
            SelfTestError: the model failed on the device.
        """
        self.tell(command, words)
        return self.answer()

    def tell(self, command: str, words: dict[str, Any], body: bytes = b"") -> None:
        """Send a command that is not answered; a refusal that came meanwhile is raised."""
        try:
            wire.send(self._sink, {"command": command, **words}, body)
            self._sink.flush()
            self.sent += len(body)
        except (BrokenPipeError, ConnectionResetError):
            self.answer()
            raise self._broken() from None

    def answer(self) -> dict[str, Any]:
        """Wait for an answer; raises as :meth:`ask`."""
        try:
            frame = wire.receive(self._source)
        except (wire.WireError, OSError) as problem:
            raise self._broken() from problem
        if frame is None:
            raise self._broken()
        refused = frame[0].get("refused")
        if refused is None:
            return frame[0]
        kind, message = refused["kind"], f"{self.name}: {refused['message']}"
        error: type[EdgekitError] = {"selftest": SelfTestError, "internal": DeviceError}.get(kind, BundleError)
        raise error(message, hint=refused["hint"])

    def close(self) -> None:
        """End the connection."""
        for stream in (self._sink, self._source):
            try:
                stream.close()
            except BrokenPipeError:
                continue
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        word = self._source.readline(64)
        if word == b"need\n":
            try:
                self._sink.write(agent_file())
                self._sink.flush()
            except BrokenPipeError:
                raise self._broken() from None
            self.sent += len(agent_file())
            word = self._source.readline(64)
        if word and word != b"ready\n":
            said = word.decode("utf-8", "replace").strip()
            raise DeviceError(
                f"{self.name}: its shell says {said!r} by itself", hint="silence its start-up files where nobody is logged in"
            )
        if not word:
            raise self._broken()

    def _broken(self) -> DeviceError:
        try:
            status = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            status = None
        self._log.seek(0)
        said = " | ".join(line.strip() for line in self._log.read()[-2000:].decode("utf-8", "replace").splitlines() if line.strip())
        if status == _NOBODY:
            return DeviceError(f"{self.name}: no device is there", hint="check the folder; edgekit flash makes a device of it")
        if status in (41, 42):
            return DeviceError(
                f"{self.name}: {self.transport.folder} can't be written there ({said or 'no space?'})", hint="check the folder"
            )
        what, hint = self.transport.explain(said)
        return DeviceError(f"{self.name}: {what}", hint=hint)


def connect(url: str, *, known: bool = False) -> Connection:
    """Reach a device by its URL.

    Args:
        url: scheme, place and folder.
        known: whether something has to be there already.

    Raises:
        TargetError: no such way.
        DeviceError: it can't be reached.
    """
    return Connection(open_transport(url), url.partition("?")[0], known=known)


def local_path(path: Path) -> str:
    """A folder of this machine as a device's URL."""
    return f"dir://{path.absolute()}"
