"""`coordeval merge SHARD... --out RUN`: join the shards of one rollout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from coordeval.counted import counted


def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="SHARD...", help="Run directories.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run directory to write.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Join shards (coordeval rollout --shard i/n) into one run, every id exactly once.

    Example: coordeval merge runs/x-1 runs/x-2 --out runs/x
    """
    from coordeval.engines.merge import merge_runs

    counts = merge_runs(shards, out)
    if json_output:
        typer.echo(json.dumps({"run": str(out), "status": "complete", "counts": counts}, indent=2))
    else:
        from coordeval.reports.printable import printable

        done = counts.get("finished", 0)
        typer.echo(
            printable(f"{out}: {counted(done, 'rollout')} from {counted(len(shards), 'shard')}")
        )


__all__ = ["merge"]
