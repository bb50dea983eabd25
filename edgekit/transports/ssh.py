"""Devices over the system's own OpenSSH, so that its configuration, agents, jump hosts and known hosts hold here as everywhere."""

from __future__ import annotations

import shlex
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote

from pydantic import Field

from edgekit.core.errors import TargetError
from edgekit.core.schema import parse
from edgekit.core.transport import Transport

_REASONS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key has changed",
        "if the device was set up anew: ssh-keygen -R HOST; if not, someone is in between",
    ),
    ("Host key verification failed", "its host key is not known", "connect once with ssh and compare the key, or add ?host_key=accept-new"),
    ("Permission denied", "it does not let this user in", "ssh-copy-id, or load the key into ssh-agent"),
    ("Could not resolve hostname", "its name can't be resolved", "check the name"),
    ("Connection refused", "nothing listens there", "start the device's SSH server, or check the port"),
    ("timed out", "it does not answer", "check that it is on and reachable"),
    ("No route to host", "it can't be reached", "check that it is on and reachable"),
    ("python3: not found", "it has no python3", "install Python 3.9 or later, or name it: ?python=/path/to/python3"),
)


class Ssh(Transport):
    """``ssh://user@host:port/folder``: keys and agents only, no passwords; the host key must be known."""

    host: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._:%-]+$", description="Name, address, or alias in the SSH configuration.")
    user: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]+$", description="User there; the SSH configuration's by default.")
    port: int | None = Field(None, ge=1, le=65535, description="Port; the SSH configuration's by default.")
    folder: str = Field("edgekit", description="Folder that holds the models; relative to the user's home.")
    python: str = Field("python3", min_length=1, description="Interpreter there that has the runtimes.")
    host_key: Literal["known", "accept-new"] = Field("known", description="Whether a host that was never seen is trusted at once.")
    config: str | None = Field(None, min_length=1, description="SSH configuration file instead of the user's.")
    connect_timeout: int = Field(10, ge=1, description="Seconds to wait for a connection.")

    @classmethod
    def of_url(cls, url: SplitResult) -> Ssh:
        """Read ``ssh://user@host:port/folder?python=...``; ``/~/folder`` is relative to the home as well.

        Raises:
            TargetError: no host, a password, or an option that is unknown, empty, or said elsewhere in the URL.
        """
        try:
            host, port = _host(url.netloc), url.port
        except ValueError as problem:
            raise TargetError(f"{url.geturl()}: {problem}", hint="write ssh://user@host:port") from problem
        if not host or url.password is not None:
            raise TargetError("an SSH URL names a host and no password", hint="write ssh://user@host and use a key")
        if url.fragment:
            raise TargetError(f"{url.geturl()}: nothing is called #{url.fragment}", hint="write %23 for # in a folder's name")
        folder = unquote(url.path).removeprefix("/~/").rstrip("/")
        given = {"host": host, "user": url.username, "port": port, **({"folder": folder} if folder else {})}
        for name, value in parse_qsl(url.query, keep_blank_values=True):
            if name in given or name == "folder":
                raise TargetError(f"ssh://{host}: {name!r} can't be said there", hint="write ssh://user@host:port/folder, each option once")
            given[name] = value
        return parse(cls, given, f"ssh://{host}", TargetError)

    def shell(self, script: str) -> list[str]:
        """Run the script in the user's home, without a terminal, and never ask anything."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes" if self.host_key == "known" else "accept-new",
            "ConnectTimeout": str(self.connect_timeout),
            "ServerAliveInterval": "15",
            "ClearAllForwardings": "yes",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        words += ["-F", self.config] if self.config else []
        words += ["-l", self.user] if self.user else []
        words += ["-p", str(self.port)] if self.port else []
        return ["ssh", "-T", *words, "--", self.host, f"exec sh -c {shlex.quote(script)}"]

    def explain(self, said: str) -> tuple[str, str]:
        """Say what OpenSSH's own words mean for a device."""
        for sign, meaning, hint in _REASONS:
            if sign in said:
                return meaning, hint.replace("HOST", self.host)
        return said.rpartition("|")[2].strip() or "the connection ended without a word", "try ssh by hand"


def _host(place: str) -> str:
    """The host as it is written: ``urlsplit`` lower-cases it, and OpenSSH's configuration tells cases apart."""
    address = place.rpartition("@")[2]
    return address[1:].partition("]")[0] if address.startswith("[") else address.partition(":")[0]
