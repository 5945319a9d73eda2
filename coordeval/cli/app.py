"""The command line: the table of verbs, and exceptions turned into exit codes."""

from __future__ import annotations

import errno
import signal
import sys
from pathlib import Path
from typing import NoReturn

import typer

from coordeval.cli.library_words import make_library_words_printable
from coordeval.cli.streams import drop_unwritable, keep_streams_usable
from coordeval.cli.verbs import VerbGroup
from coordeval.errors import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    EXIT_USAGE,
    CoordevalError,
)

# Faults of disks, mounts, permissions and limits: nobody's bug, wherever they strike.
_OF_THE_MACHINE = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "ENFILE", "ENOMEM"),
        *("EIO", "ENODEV", "ENXIO", "EUCLEAN", "EBUSY", "ELOOP", "ENAMETOOLONG"),
        *("ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "EREMOTEIO", "ENOLCK"),
    )
    if hasattr(errno, name)  # not every system has all of them
)

app = typer.Typer(
    name="coordeval",
    cls=VerbGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Decode detecting vision-language models freely, read what they write without mercy, "
        "and say what went wrong.\n\n"
        "A rollout fills a run directory; everything else reads it. Without data or a model, "
        "start with: coordeval demo"
    ),
)


def _version(value: bool) -> None:
    if value:
        from coordeval import __version__

        typer.echo(f"coordeval {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    del version


class _Stopped(SystemExit):
    """A signal came where no part of the program had taken it upon itself."""

    def __init__(self, number: int) -> None:
        super().__init__(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)
        self.name = signal.Signals(number).name


def _exit_on_signals() -> None:
    """Ctrl-C ends with 130 and SIGTERM with 143, after every `finally` has run."""

    def leave(number: int, _frame: object) -> NoReturn:
        raise _Stopped(number)

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)


def main() -> None:
    """Run the command line; faults of the user are one line on stderr and their exit code."""
    _exit_on_signals()
    keep_streams_usable()
    make_library_words_printable()
    try:
        app()
        sys.stdout.flush()
    except _Stopped as stopped:
        typer.echo(f"stopped by {stopped.name} before the command was done", err=True)
        raise
    except CoordevalError as error:
        typer.echo(f"error: {_shown(error)}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not _has_working_folder():
            typer.echo("error: the working folder is gone: go to one that is there", err=True)
            sys.exit(EXIT_USAGE)
        if error.errno not in _OF_THE_MACHINE:
            _end_with_bug(error)
        drop_unwritable(sys.stdout)
        where = f"{_shown(error.filename)}: " if error.filename else ""
        typer.echo(f"error: {where}{error.strerror or error}", err=True)
        sys.exit(EXIT_USAGE)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever is left is a bug of ours
        _end_with_bug(error)


def _shown(said: object) -> str:
    """What is said as one line without control characters and without secrets of URLs."""
    from coordeval.addresses import without_secrets
    from coordeval.reports.printable import printable

    return printable(without_secrets(str(said)))


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _end_with_bug(error: Exception) -> NoReturn:
    import traceback

    for line in "".join(traceback.format_exception(error)).rstrip().split("\n"):
        typer.echo(_shown(line), err=True)
    typer.echo(
        f"internal error: {type(error).__name__}: {_shown(error)}\n"
        "this is a bug in coordeval: please report it with the lines above",
        err=True,
    )
    sys.exit(EXIT_INTERNAL)


if __name__ == "__main__":
    main()
