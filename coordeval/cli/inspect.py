"""`coordeval inspect RUN [ID]`: the worst rollouts, or one of them record by record."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordeval.cli.naming import (
    SemanticOption,
    SemanticThresholdOption,
    SynonymsOption,
    scoring_protocol,
    warn_of_idle_synonyms,
)
from coordeval.cli.score import (
    DialectOption,
    FieldOrderOption,
    FrameOption,
    RunArgument,
    open_with_reading,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from coordeval.metrics.protocols import Protocol
    from coordeval.metrics.result import ScoreResult
    from coordeval.runs import Run


def inspect_run(  # noqa: PLR0917 - one parameter per option
    run: RunArgument,
    image_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One sample; without it, the worst ones.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only samples with this drop reason (wrong_arity, ...).")
    ] = None,
    issue: Annotated[
        str | None, typer.Option(help="Only samples with this issue (truncated, ...).")
    ] = None,
    loops: Annotated[bool, typer.Option("--loops", help="Only samples with a loop.")] = False,
    other: Annotated[
        Path | None,
        typer.Option("--worse-than", metavar="RUN", help="Only samples that RUN does better."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many samples to list.")] = 20,
    sample_index: Annotated[
        int,
        typer.Option("--sample-index", metavar="N", min=0, help="Which sample; 0 is the headline."),
    ] = 0,
    full_tokens: Annotated[
        bool, typer.Option("--full-tokens", help="Write <|coord_k|> out instead of <k>.")
    ] = False,
    dialect: DialectOption = None,
    field_order: FieldOrderOption = None,
    frame: FrameOption = None,
    synonyms: SynonymsOption = None,
    semantic: SemanticOption = None,
    semantic_threshold: SemanticThresholdOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what was written, what was dropped and why, and where it loops; worst samples first.

    Exit code 4 where RUN and that of --worse-than have no common ids, or other ground truth.

    Examples: coordeval inspect runs/x; coordeval inspect runs/x 0017;
    coordeval inspect runs/x --reason wrong_arity --json
    """
    opened = open_with_reading(run, dialect=dialect, field_order=field_order, frame=frame)
    rules = scoring_protocol(run, synonyms, semantic, semantic_threshold)
    if image_id is not None:
        _show_one(
            _scored_sample(opened, sample_index, rules),
            run,
            image_id,
            sample_index=sample_index,
            shorten=not full_tokens,
            json_output=json_output,
        )
        return
    table = _filtered(_scored_sample(opened, sample_index, rules), reason, issue, loops=loops)
    if other is not None:
        reference = open_with_reading(other, dialect=dialect, field_order=field_order, frame=frame)
        table = _worse_than(table, opened, reference, rules)
    reading = {
        "dialect": dialect,
        "field_order": field_order,
        "frame": frame,
        "synonyms": synonyms,
        "semantic": semantic,
        "semantic_threshold": semantic_threshold,
    }
    _list_worst(
        table, limit, partial(inspect_command, run, reading=reading), sample_index, json_output
    )


def _scored_sample(run: Run, sample_index: int, rules: Protocol) -> ScoreResult:
    """The run scored with this sample as its headline; ConfigError where it holds none."""
    from coordeval.errors import ConfigError
    from coordeval.metrics.sample_run import sample_of
    from coordeval.metrics.score import score_run

    result = score_run(sample_of(run, sample_index) if sample_index else run, protocol=rules)
    warn_of_idle_synonyms(result)
    if sample_index and not result.columns.images:
        held = sorted({rollout.sample_index for rollout in run.rollouts()})
        known = f"it holds {', '.join(map(str, held))}" if held else "it holds no rollout"
        raise ConfigError(f"{run.path}: no sample {sample_index}; {known}")
    return result


def _filtered(
    result: ScoreResult, reason: str | None, issue: str | None, *, loops: bool
) -> pd.DataFrame:
    from coordeval.errors import ConfigError

    table = result.per_image
    for prefix, name, what in (("drop_", reason, "drop reason"), ("issue_", issue, "issue")):
        if name is None:
            continue
        if prefix + name not in table.columns:
            known = [c.removeprefix(prefix) for c in table.columns if c.startswith(prefix)]
            raise ConfigError(f"unknown {what} {name!r}: use one of {', '.join(known)}")
        table = table[table[prefix + name] > 0]
    return table[table["loop"]] if loops else table


def _worse_than(table: pd.DataFrame, run: Run, reference: Run, rules: Protocol) -> pd.DataFrame:
    """The samples that the reference does better; NotComparable as in `coordeval compare`."""
    from coordeval.errors import NotComparable
    from coordeval.metrics.score import score_run
    from coordeval.reports.worst import worse_than
    from coordeval.stats.pairing import pair_runs, said_of_other_truth

    mismatches = said_of_other_truth(pair_runs([run, reference]))
    if mismatches:
        raise NotComparable(f"--worse-than: {'; '.join(mismatches)}")
    return worse_than(table, score_run(reference, protocol=rules).per_image)


def _list_worst(
    table: pd.DataFrame,
    limit: int,
    command: Callable[[str, int], str],
    sample_index: int,
    json_output: bool,
) -> None:
    from coordeval.jsonl import dump_line
    from coordeval.reports.console import result_console
    from coordeval.reports.worst import render_worst, worst_rows

    rows = worst_rows(table, limit)
    if json_output:
        typer.echo(dump_line(rows).decode().rstrip())
        return
    console = result_console()
    console.print(render_worst(rows, total=len(table)))
    if rows:
        console.print(f"one of them: {command(rows[0]['id'], sample_index)}", soft_wrap=True)


def _show_one(
    result: ScoreResult,
    run: Path,
    image_id: str,
    *,
    sample_index: int,
    shorten: bool,
    json_output: bool,
) -> None:
    import difflib

    from coordeval.errors import ConfigError
    from coordeval.jsonl import dump_line
    from coordeval.reports.console import result_console
    from coordeval.reports.inspection import inspect_image, render_inspection

    inspection = inspect_image(result, image_id, sample_index=sample_index)
    if inspection is None:
        ids = [entry.id for entry in result.columns.images]
        near = [i for i in ids if image_id in i][:1] or difflib.get_close_matches(image_id, ids, 1)
        hint = f"did you mean {near[0]!r}?" if near else "list them with: coordeval inspect RUN"
        raise ConfigError(f"{run}: no sample {image_id!r}; {hint}")
    if json_output:
        typer.echo(dump_line(inspection.to_json()).decode().rstrip())
        return
    result_console().print(render_inspection(inspection, shorten=shorten))


def inspect_command(
    run: Path,
    image_id: str | None = None,
    sample_index: int = 0,
    reading: Mapping[str, object] | None = None,
) -> str:
    """The command that shows one sample, or the worst ones; safe to print and to paste.

    `reading` are options by name that say how the texts are read; those that are None are left out.
    """
    import shlex

    from coordeval.reports.printable import printable

    words = ["coordeval", "inspect", str(run), *([] if image_id is None else [image_id])]
    words += ["--sample-index", str(sample_index)] if sample_index else []
    for name, value in (reading or {}).items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    return printable(shlex.join(words))


__all__ = ["inspect_command", "inspect_run"]
