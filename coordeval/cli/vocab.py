"""`coordeval vocab expand BASE OUT`: coordinate tokens for a checkpoint that has none."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from coordeval.counted import counted

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="The vocabulary of a checkpoint.",
)


@app.callback()
def _root() -> None:
    """Keep `expand` a command of its own, so that others can follow."""


class InitName(StrEnum):
    """How the new rows start."""

    fourier = "fourier"
    digits = "digits"


@app.command(short_help="Add <|coord_0|> to <|coord_999|>.")
def expand(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Checkpoint folder or hub id.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the result.")],
    init: Annotated[
        InitName,
        typer.Option(
            help="Rows of near bins start alike: Fourier features, or between the digits' rows."
        ),
    ] = InitName.fourier,
    seed: Annotated[int, typer.Option(help="Seed of the Fourier features' rotation.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Add <|coord_0|> ... <|coord_999|> to tokenizer, embeddings and head of a checkpoint.

    Tokens that are there keep their ids and rows. BASE is never changed; OUT is read back and
    checked before the command ends.

    Example: coordeval vocab expand base-checkpoint checkpoint-with-tokens
    """
    from coordeval.engines.extras import require_extra
    from coordeval.reports.printable import printable

    require_extra("expanding a vocabulary", "hf")
    from coordeval.training.vocabulary.expand import expand_vocabulary

    done = expand_vocabulary(
        base,
        out,
        init=init.value,
        seed=seed,
        notify=lambda message: typer.echo(printable(message), err=True),
    )
    if json_output:
        typer.echo(json.dumps(asdict(done) | {"out": str(out)}, indent=2))
        return
    what = (
        f"{counted(done.added, 'token')} added"
        if done.added
        else "it had all coordinate tokens already"
    )
    typer.echo(
        printable(
            f"{out}: {what}; ids {done.first_id} to {done.last_id}, "
            f"{'tied' if done.tied else 'untied'} tables of {done.rows_before} -> "
            f"{done.rows_after} rows"
        )
    )


__all__ = ["app"]
