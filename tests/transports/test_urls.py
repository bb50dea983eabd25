from __future__ import annotations

import sys

import pytest

from edgekit.core.errors import TargetError
from edgekit.deploy.connection import open_transport


def test_a_folder() -> None:
    found = open_transport("dir:///mnt/my%20image/edgekit")
    assert (found.folder, found.python) == ("/mnt/my image/edgekit", sys.executable)
    assert found.shell("true") == ["sh", "-c", "true"]


@pytest.mark.parametrize("url", ["dir:///x?python=/usr/bin/python3", "dir:///x#2"])
def test_a_folder_without_options(url: str) -> None:
    with pytest.raises(TargetError, match="has no options"):
        open_transport(url)


@pytest.mark.parametrize("url", ["dir://relative/x", "dir:///", "dir:"])
def test_no_folder(url: str) -> None:
    with pytest.raises(TargetError, match="names no folder"):
        open_transport(url)


@pytest.mark.parametrize(
    ("url", "folder", "words"),
    [
        ("ssh://pi@board", "edgekit", ["-l", "pi", "--", "board"]),
        ("ssh://board:2222/var/lib/edgekit", "/var/lib/edgekit", ["-p", "2222", "--", "board"]),
        ("ssh://board/~/models", "models", ["--", "board"]),
        ("ssh://pi@MyBoard:22", "edgekit", ["-l", "pi", "-p", "22", "--", "MyBoard"]),
        ("ssh://pi@[FE80::1%eth0]:22/x", "/x", ["-l", "pi", "-p", "22", "--", "FE80::1%eth0"]),
        ("ssh://[::1]", "edgekit", ["--", "::1"]),
        ("ssh://board?python=/opt/venv/bin/python&config=/etc/my", "edgekit", ["-F", "/etc/my", "--", "board"]),
    ],
)
def test_ssh(url: str, folder: str, words: list[str]) -> None:
    found = open_transport(url)
    command = found.shell("echo 'x y'")
    assert found.folder == folder
    assert command[-1] == """exec sh -c 'echo '"'"'x y'"'"''"""
    assert command[-1 - len(words) : -1] == words
    assert "StrictHostKeyChecking=yes" in command
    assert "BatchMode=yes" in command


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ssh://", "names a host"),
        ("ssh://pi:secret@board", "no password"),
        ("ssh://board:99999", "out of range"),
        ("ssh://-oProxyCommand=evil", "host"),
        ("ssh://board?colour=red", "unknown key 'colour'"),
        ("ssh://board?host=evil", "'host' can't be said there"),
        ("ssh://board?user=root", "'user' can't be said there"),
        ("ssh://board?folder=x", "'folder' can't be said there"),
        ("ssh://board?python=a&python=b", "'python' can't be said there"),
        ("ssh://board?python=", "python"),
        ("ssh://board/x#2", "nothing is called #2"),
        ("ssh://[board", "Invalid IPv6 URL"),
        ("usb://board", "no way to a device is called 'usb'"),
    ],
)
def test_bad_urls(url: str, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        open_transport(url)
