"""A real OpenSSH server on loopback, with keys and known hosts of its own."""

from __future__ import annotations

import getpass
import os
import platform
import runpy
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from edgekit.core.errors import DeviceError, SelfTestError
from edgekit.deploy.connection import connect
from edgekit.deploy.devices import look
from edgekit.deploy.flash import flash
from edgekit.transports.ssh import Ssh

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
HERE = SSHD is not None and shutil.which("ssh") is not None
pytestmark = pytest.mark.skipif(not HERE, reason="needs OpenSSH's server and client")


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


class Server(SimpleNamespace):
    """An SSH server and what a client needs to reach it."""

    def url(self, folder: Path) -> str:
        return f"ssh://127.0.0.1:{self.port}{folder}?python={sys.executable}&config={self.config}"

    def know(self, key: Path) -> None:
        words = key.with_suffix(".pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {' '.join(words)}\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sshd")
    host_key, user_key = make_key(folder / "host"), make_key(folder / "user")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": host_key,
        "AuthorizedKeysFile": user_key.with_suffix(".pub"),
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    known = folder / "known_hosts"
    client = {
        "User": getpass.getuser(),
        "IdentityFile": user_key,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": known,
        "GlobalKnownHostsFile": "/dev/null",
    }
    (folder / "ssh_config").write_text("".join(f"{key} {value}\n" for key, value in client.items()))
    assert SSHD is not None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    made = Server(port=port, config=folder / "ssh_config", known_hosts=known, host_key=host_key, folder=folder)
    made.know(host_key)
    yield made
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
def forge() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "agent" / "forge.py")))


def test_the_agent_is_brought_there_once_and_answers(server, tmp_path):
    url = server.url(tmp_path / "device")
    with connect(url) as device:
        assert device.ask("probe")["home"] == str(tmp_path / "device")
        assert device.sent > 50_000
    with connect(url) as device:
        assert device.sent == 0
    assert (tmp_path / "device/agent.pyz").stat().st_mode & 0o777 == 0o644


def test_an_agent_that_was_changed_on_the_device_is_replaced_before_it_runs(server, tmp_path):
    url = server.url(tmp_path / "device")
    with connect(url):
        pass
    (tmp_path / "device/agent.pyz").write_bytes(b"import os; os.abort()")
    with connect(url) as device:
        assert device.ask("probe")["agent"] == 1


def test_a_host_key_that_changed_is_refused(server, tmp_path):
    server.know(make_key(tmp_path / "other"))
    try:
        with pytest.raises(DeviceError, match="its host key has changed") as found:
            connect(server.url(tmp_path / "device"))
    finally:
        server.know(server.host_key)
    assert found.value.exit_code == 3
    assert "ssh-keygen -R" in found.value.hint
    assert not (tmp_path / "device").exists()


def test_a_host_key_that_is_not_known_is_refused_unless_told_otherwise(server, tmp_path):
    server.known_hosts.write_text("")
    try:
        with pytest.raises(DeviceError, match="its host key is not known"):
            connect(server.url(tmp_path / "device"))
        assert not (tmp_path / "device").exists()
        with connect(server.url(tmp_path / "device") + "&host_key=accept-new") as device:
            assert device.ask("probe")["agent"] == 1
    finally:
        server.know(server.host_key)


def test_a_key_that_is_not_allowed_is_told(server, tmp_path):
    config = tmp_path / "config"
    config.write_text(server.config.read_text().replace(str(server.folder / "user"), str(make_key(tmp_path / "stranger"))))
    url = server.url(tmp_path / "device").replace(str(server.config), str(config))
    with pytest.raises(DeviceError, match="does not let this user in"):
        connect(url)


def test_a_device_that_is_off_is_part_of_the_answer(server, tmp_path):
    url = server.url(tmp_path).replace(f":{server.port}", ":1")
    assert "nothing listens there" in (look(url).problem or "")


def test_a_python_whose_path_has_a_blank_runs_the_test_too(server, forge, tmp_path):
    linked = tmp_path / "my python"
    linked.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    linked.chmod(0o755)
    url = server.url(tmp_path / "device").replace(sys.executable, quote(str(linked)))
    target = {"architectures": [platform.machine()], "features": []}
    files = {**forge.contents(), "agent.pyz": b"print('it ran')"}
    bundle = tmp_path / "x.edgekit"
    bundle.write_bytes(forge.bundle(1, files=files, target=target, runtime={"at_least": "1.0"}))
    with connect(url) as device, pytest.raises(SelfTestError, match="ended with status 0"):
        flash(device, bundle, root=forge.root())


def test_a_shell_that_talks_by_itself_is_quoted(server, tmp_path, monkeypatch):
    shell = Ssh.shell
    monkeypatch.setattr(Ssh, "shell", lambda self, script: shell(self, f"echo Welcome to board\n{script}"))
    with pytest.raises(DeviceError, match="its shell says 'Welcome to board' by itself"):
        connect(server.url(tmp_path / "device"))


def test_a_device_without_python(server, tmp_path):
    url = server.url(tmp_path / "device").replace(sys.executable, "/nowhere/python3")
    with pytest.raises(DeviceError, match="it has no python3"):
        connect(url).ask("probe")
