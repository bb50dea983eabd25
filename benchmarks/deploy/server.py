"""A device on loopback: an OpenSSH server, a user of its own, and a Python of its own with NumPy and ONNX Runtime."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USER = "edgekit-device"
RUNTIMES = ("numpy", "onnxruntime", "google", "flatbuffers")


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    config: Path
    home: Path
    python: Path

    def url(self, folder: Path, *, port: int | None = None, python: Path | None = None) -> str:
        """URL of a folder on the device."""
        return f"ssh://127.0.0.1:{port or self.port}{folder}?python={python or self.python}&config={self.config}"

    def scp(self, file: Path, *, port: int | None = None) -> float:
        """Seconds of a plain copy."""
        began = time.perf_counter()
        command = ["scp", "-q", "-F", str(self.config), "-P", str(port or self.port), str(file), f"127.0.0.1:{self.home}/copied"]
        subprocess.run(command, check=True)
        return time.perf_counter() - began

    def place(self, source: Path, name: str) -> Path:
        """Copy a folder to the device, as its user's own."""
        made = self.home / name
        shutil.copytree(source, made, symlinks=True)
        subprocess.run(["chown", "-hR", USER, str(made)], check=True)
        return made

    def run(self, command: str) -> str:
        """Run a command on the device."""
        words = ["ssh", "-T", "-F", str(self.config), "-p", str(self.port), "127.0.0.1", command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def server(work: Path) -> Iterator[Server]:
    """Start a server that ends with the block; needs root, to give the device a user of its own."""
    if os.geteuid() != 0:
        raise SystemExit("run as root: the device gets a user of its own")
    home = _user()
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / name)], check=True)
    port = free_port()
    Path("/run/sshd").mkdir(exist_ok=True)
    settings = {"Port": port, "ListenAddress": "127.0.0.1", "HostKey": work / "host", "PidFile": work / "pid", "UsePAM": "no"}
    settings |= {"PasswordAuthentication": "no", "AllowUsers": USER, "MaxStartups": 100, "Subsystem": "sftp internal-sftp"}
    settings |= {"AuthorizedKeysFile": work / "key.pub", "StrictModes": "no"}
    (work / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    words = (work / "host.pub").read_text().split()[:2]
    (work / "known_hosts").write_text(f"127.0.0.1,[127.0.0.1]:* {' '.join(words)}\n")
    client = {"User": USER, "IdentityFile": work / "key", "IdentitiesOnly": "yes", "UserKnownHostsFile": work / "known_hosts"}
    client |= {"GlobalKnownHostsFile": "/dev/null", "StrictHostKeyChecking": "yes"}
    (work / "ssh_config").write_text("".join(f"{key} {value}\n" for key, value in client.items()))
    process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(work / "sshd_config")])
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        yield Server(port, work / "ssh_config", home, _python(home))
    finally:
        process.terminate()
        process.wait()


def _user() -> Path:
    try:
        return Path(pwd.getpwnam(USER).pw_dir)
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", USER], check=True)
        return Path(pwd.getpwnam(USER).pw_dir)


def _python(home: Path) -> Path:
    """The system's Python with this environment's NumPy and ONNX Runtime, where the device's user can read them."""
    site = home / "site"
    if not site.exists():
        here = Path(next(path for path in sys.path if path.endswith("site-packages")))
        for path in here.iterdir():
            if path.name.partition(".")[0].partition("-")[0] in RUNTIMES:
                copy = shutil.copytree if path.is_dir() else shutil.copyfile
                copy(path, site / path.name) if path.is_dir() else (site.mkdir(exist_ok=True), copy(path, site / path.name))
        subprocess.run(["chmod", "-R", "a+rX", str(site)], check=True)
    return wrapper(home / "python3", f'PYTHONPATH={site} exec /usr/bin/python3 "$@"')


def wrapper(path: Path, line: str) -> Path:
    """An executable of one line."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def slow_link(port: int, megabits: float) -> int:
    """Forward a port at a limited rate, both ways; return the port that is slow. Ends with the process."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, sink: socket.socket) -> None:
        due = time.monotonic()
        try:
            while data := source.recv(16384):
                due = max(due, time.monotonic()) + len(data) * 8 / megabits / 1e6
                time.sleep(max(0.0, due - time.monotonic()))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    found: int = listener.getsockname()[1]
    return found


@contextmanager
def cut_link(port: int, size: int) -> Iterator[int]:
    """Forward one connection to a port, and cut it after so many bytes from the client; yield the port to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def forward() -> None:
            left = size
            near, _ = listener.accept()
            with near, socket.create_connection(("127.0.0.1", port)) as far:
                threading.Thread(target=_carry, args=(far, near), daemon=True).start()
                while left and (data := near.recv(min(left, 16384))):
                    far.sendall(data)
                    left -= len(data)
                for end in (near, far):
                    end.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=forward, daemon=True).start()
        yield listener.getsockname()[1]


def _carry(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(16384):
            sink.sendall(data)
    except OSError:
        return
