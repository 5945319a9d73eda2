"""The command line: the table of verbs, and exceptions turned into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from coordeval.cli.verbs import VerbGroup
from coordeval.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_TERMINATED, CoordevalError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="coordeval",
    cls=VerbGroup,
    no_args_is_help=True,
    add_completion=False,
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


def _exit_on_signals() -> None:
    """Ctrl-C ends with 130 and SIGTERM with 143, after every `finally` has run."""

    def leave(number: int, _frame: object) -> NoReturn:
        sys.exit(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)


def _survive_closed_pipe(stream: Any) -> None:
    """Where the reader has left (head, less), go on into nothing: the verb's exit code stays."""

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            try:
                return call(*args)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                return None

        return run

    stream.write, stream.flush = guarded(stream.write), guarded(stream.flush)


def main() -> None:
    """Run the command line; faults of the user are one line on stderr and their exit code."""
    _exit_on_signals()
    _survive_closed_pipe(sys.stdout)
    try:
        app()
        sys.stdout.flush()
    except CoordevalError as error:
        from coordeval.reports.printable import printable

        typer.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever is left is a bug of ours
        import traceback

        traceback.print_exc()
        typer.echo(
            f"internal error: {type(error).__name__}: {error}\n"
            "this is a bug in coordeval: please report it with the lines above",
            err=True,
        )
        sys.exit(EXIT_INTERNAL)


if __name__ == "__main__":
    main()
