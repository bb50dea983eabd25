from __future__ import annotations

import sys

import pytest

from edgekit.core.errors import TargetError
from edgekit.deploy.connection import open_transport


def test_a_folder() -> None:
    found = open_transport("dir:///mnt/my%20image/edgekit")
    assert (found.folder, found.python) == ("/mnt/my image/edgekit", sys.executable)
    assert found.shell("true") == ["sh", "-c", "true"]


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
        ("usb://board", "no way to a device is called 'usb'"),
    ],
)
def test_bad_urls(url: str, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        open_transport(url)
