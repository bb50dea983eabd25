"""Commands of the agent on the device: ``python3 agent.pyz COMMAND``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from . import disk
from .refusal import Refused

DESCRIPTION = """Keeps models on this device: lets in signed bundles that fit and pass their own test, and returns to the last good model.

An application starts with 'start NAME' (prints the folder to use and counts the start) and says 'good NAME FOLDER' once the model has
proved itself; a model that is started three times without that is given up for the last good one."""


def main(arguments: list[str]) -> int:
    """Run one command; 0 done, 1 refused, 2 misused."""
    options = _parser().parse_args(arguments)
    os.umask(0o022)
    try:
        answer = _run(options)
    except Refused as problem:
        return _say(problem)
    except OSError as problem:
        return _say(disk.refusal(problem))
    if isinstance(answer, int):
        return answer
    if answer is not None:
        sys.stdout.write(answer if isinstance(answer, str) else json.dumps(answer, indent=1, sort_keys=True))
        sys.stdout.write("\n")
    return 0


def _run(options: argparse.Namespace) -> Any:
    if options.command == "try":
        from . import trial

        return trial.main(Path(options.what), trial.attempt)
    if options.command == "rehearse":
        from . import trial

        return trial.rehearse(options.what)
    if options.command == "try-engine":
        from . import trial

        engine, trtexec = options.more
        return trial.main(Path(options.what), lambda slot, content: trial.attempt_engine(slot, content, Path(engine), trtexec))
    if options.command == "runner":
        from ..runner import serve as runner  # noqa: TID252 - the two travel together, under whatever name

        return runner.main()
    from . import serve, wire

    home = Path(options.home).expanduser().absolute()
    if options.command == "serve":
        return serve.serve(home, wire.Line(0, serve.PATIENCE), sys.stdout.buffer)
    if options.command == "status":
        return serve.status(home)
    if options.command == "start":
        from . import slots

        return str(slots.start(home, options.what))
    disk.make_folder(home)
    with disk.alone(home / "lock"):
        if options.command == "good":
            return _approve(home, options.what, options.folder)
        return _change(options.command, home, options.what)


def _approve(home: Path, name: str, folder: str | None) -> None:
    from .slots import Model

    model = Model.open(home, name)
    if folder is None and model.current == model.state.trial and model.state.starts == 0:
        raise Refused("state", f"the current {name} was never started", f"good {name} FOLDER, as 'start {name}' printed it")
    if not model.approve(None if folder is None else Path(folder).name):
        raise Refused("state", f"{folder} is not current any more", f"start {name} again")


def _change(command: str, home: Path, what: str) -> Any:
    from .install import Installer, install_file
    from .slots import Model

    if command == "install":
        with Path(what).open("rb") as source:
            return install_file(Installer(home), source)
    if command == "activate":
        return Installer(home).activate_stored(what)
    model = Model.open(home, what)
    return str(model.path(model.back()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent.pyz", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", default=str(_home()), help="folder that holds the models (default: the one this file lies in)")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what, words in (
        ("install", "BUNDLE", "let in a bundle from a file"),
        ("activate", "NAME", "test a stored bundle and switch to it"),
        ("start", "NAME", "count a start and print the folder to use"),
        ("good", "NAME", "take the current model for good"),
        ("back", "NAME", "return to the last good model"),
        ("status", None, "print what is here"),
        ("serve", None, "answer a host on standard input and output"),
        ("runner", None, "run a model for a host on standard input and output"),
        ("try", "SLOT", "run a slot's self-test"),
        ("rehearse", "RUNTIME", "load a runtime, then test the slot that standard input names"),
        ("try-engine", "SLOT", "run a slot's self-test through a TensorRT engine"),
    ):
        command = commands.add_parser(name, help=words)
        if what is not None:
            command.add_argument("what", metavar=what)
        if name == "good":
            command.add_argument("folder", metavar="FOLDER", nargs="?", help="what 'start' printed, so that nothing flashed since is meant")
        if name == "try-engine":
            command.add_argument("more", nargs=2, metavar=("ENGINE", "TRTEXEC"))
    return parser


def _home() -> Path:
    """The folder of the archive that this was started from; the current one otherwise."""
    started = Path(sys.argv[0] or ".").absolute()
    return started.parent if started.suffix == ".pyz" else Path.cwd()


def _say(problem: Refused) -> int:
    sys.stderr.write(f"refused: {problem.message}\n" + (f"hint: {problem.hint}\n" if problem.hint else ""))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
