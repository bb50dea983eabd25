"""The ``edgekit`` program: finds the commands, runs one, and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import pkgutil
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import EdgekitError

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130
"""128 and the number of the signal, as shells count; what typer makes of an interrupt."""
REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EMFILE,
)
"""What the system refuses whoever asks: nothing is wrong with edgekit."""
ORDER = (
    *("compress", "inspect", "validate", "benchmark", "compare"),
    *("bundle", "verify", "flash", "devices", "rollback"),
    *("targets", "doctor", "keys"),
)


def build(only: str | None = None) -> typer.Typer:
    """Make the application; a file of this folder is a command and its function ``command`` is what runs.

    Args:
        only: import this command alone, since the others are not needed to run it.
    """
    import typer

    app = typer.Typer(
        name="edgekit",
        help="Take a pretrained checkpoint to a validated model for ONNX Runtime, OpenVINO or TFLite on a target device.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if version:
            import edgekit

            sys.stdout.write(f"edgekit {edgekit.__version__}\n")
            raise typer.Exit

    known = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name != "main" and not m.name.startswith("_")]
    for name in sorted(known, key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER)):
        if only in known and name != only:
            continue
        command = importlib.import_module(f"edgekit.cli.{name}").command
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code: 0 success, 1 a gate failed, 2 wrong input, 3 environment, 4 internal error."""
    command = next((word for word in arguments if not word.startswith("-")), None)
    try:
        from typer.exceptions import Abort, TyperException
    except KeyboardInterrupt:
        return INTERRUPTED
    try:
        code = build(command)(args=arguments, standalone_mode=False)
    except EdgekitError as problem:
        _say(problem.message, problem.hint)
        return problem.exit_code
    except TyperException as problem:
        if type(problem).__name__ == "NoArgsIsHelpError":  # typer hands it out under no name that is public
            sys.stderr.write(problem.format_message() + "\n")
            return 2
        _say(problem.format_message(), "edgekit --help, or edgekit COMMAND --help, shows what is possible")
        return 2
    except (KeyboardInterrupt, Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        return 0
    except SystemExit as problem:
        if isinstance(problem.__context__, BrokenPipeError):  # typer ends a program whose reader has left
            return 0
        _say(f"the program was ended from inside (exit {problem.code})", "find the sys.exit in the code that the recipe names")
        return 2
    except MemoryError:
        _say("there is not enough memory for this model", "free some memory, or use a machine with more")
        return 3
    except ModuleNotFoundError as problem:
        if (problem.name or "edgekit").startswith("edgekit"):
            return _bug(problem, arguments)
        _say(f"{problem.name} is needed here and is not installed", "edgekit doctor names what is missing and the command that installs it")
        return 3
    except OSError as problem:
        if problem.errno not in REFUSED:
            return _bug(problem, arguments)
        _say(f"{problem.filename or 'a file'}: {problem.strerror}", "check the path, its permissions, and the space on its disk")
        return 2
    except Exception as problem:  # noqa: BLE001 - the last resort: whatever is left is a bug, told in one line
        return _bug(problem, arguments)
    if code == INTERRUPTED:
        _say("interrupted", "run the same command again; finished stages are kept")
    return code if isinstance(code, int) else 0


def _bug(problem: Exception, arguments: list[str]) -> int:
    if "--debug" in arguments:
        traceback.print_exception(problem)
    _say(f"internal error: {type(problem).__name__}: {problem}", f"this is a bug in edgekit ({_where(problem)}); please report it")
    return 4


def _say(message: str, hint: str) -> None:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    if hint:
        sys.stderr.write(f"hint: {' '.join(hint.split())}\n")


def _where(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)
    inside = [f for f in frames if "edgekit" in f.filename] or frames
    return f"{Path(inside[-1].filename).name}:{inside[-1].lineno}" if inside else "unknown place"
