from __future__ import annotations

import os
import subprocess
import sys

import pytest

import edgekit
from edgekit.cli import main as module
from edgekit.cli.main import ORDER, main
from edgekit.core.errors import SourceError


@pytest.fixture
def failing(monkeypatch):
    """Let the command ``targets`` raise something."""

    def let(problem: BaseException) -> None:
        from edgekit.cli import targets

        def command() -> None:
            raise problem

        monkeypatch.setattr(targets, "command", command)

    return let


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command_in_order(capsys, flag):
    assert main([flag]) == 0
    said = capsys.readouterr().out
    places = [said.index(f"\n  {name} ") for name in ORDER]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ORDER)
def test_every_command_has_help(capsys, name):
    assert main([name, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_no_arguments_is_wrong_usage_that_shows_the_help(capsys):
    assert main([]) == 2
    said = capsys.readouterr()
    assert "compress" in said.out + said.err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgekit {edgekit.__version__}\n"


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (SourceError("x.pth: is\ndamaged", hint="fetch\nit again"), 2, ["error: x.pth: is damaged", "hint: fetch it again"]),
        (PermissionError(13, "Permission denied", "/root/x"), 2, ["error: /root/x: Permission denied", "hint: check the path"]),
        (OSError(28, "No space left on device"), 2, ["error: a file: No space left", "hint: check the path"]),
        (ModuleNotFoundError("No module named 'acme'", name="acme"), 3, ["error: acme is needed", "hint: edgekit doctor"]),
        (MemoryError(), 3, ["error: there is not enough memory", "hint: free some memory"]),
        (SystemExit(0), 2, ["error: the program was ended from inside (exit 0)", "hint: find the sys.exit"]),
        (KeyboardInterrupt(), 130, ["error: interrupted", "hint: run the same command again"]),
        (ValueError("two\nlines"), 4, ["error: internal error: ValueError: two lines", "hint: this is a bug in edgekit ("]),
        (
            FileNotFoundError(2, "No such file or directory", "inner"),
            4,
            ["error: internal error: FileNotFoundError", "hint: this is a bug"],
        ),
        (ModuleNotFoundError("No module named 'edgekit.x'", name="edgekit.x"), 4, ["error: internal error", "hint: this is a bug"]),
    ],
)
def test_every_failure_is_one_line_and_a_hint(failing, capsys, problem, code, words):
    failing(problem)
    assert main(["targets"]) == code
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(word) for line, word in zip(lines, words, strict=True)), lines
    assert said.out == ""


def test_debug_shows_where_an_internal_error_came_from(capsys):
    assert module._bug(ValueError("odd"), ["targets", "--debug"]) == 4
    assert "ValueError: odd\nerror: internal error" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.Popen([sys.executable, "-m", "edgekit", "targets", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_closed_stdout_does_no_harm(tmp_path):
    command = f"{sys.executable} -m edgekit benchmark gone.onnx >&-"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 2
    assert done.stderr.startswith("error: gone.onnx")
