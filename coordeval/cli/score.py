"""`coordeval score RUN`: numbers and tables of a run directory or a bare file of rollout lines."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordeval.cli.naming import (
    SemanticOption,
    SemanticThresholdOption,
    SynonymsOption,
    scoring_protocol,
    warn_of_idle_synonyms,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordeval.metrics.result import ScoreResult
    from coordeval.records import Category
    from coordeval.runs import Run


class ScoreSource(StrEnum):
    """Where the confidence of a detection comes from."""

    auto = "auto"
    scores = "scores"
    logprob = "logprob"
    fused = "fused"
    order = "order"
    constant = "constant"


RunArgument = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="Run directory, or a JSONL file of rollout lines."),
]
DialectOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE.toml|auto",
        help="How objects are written; auto proposes.  [default: the run's, or coordjson]",
    ),
]
FieldOrderOption = Annotated[
    str | None,
    typer.Option(
        metavar="desc_first|geometry_first",
        help="Enforce this order of fields; others are dropped as key_order.",
    ),
]
FrameOption = Annotated[
    str | None, typer.Option(help="What a bin means.  [default: the run's, or coordexp]")
]


def score(
    run: RunArgument,
    protocol: Annotated[
        str, typer.Option(help="Evaluation protocol: coordeval, coordexp, rex-omni.")
    ] = "coordeval",
    scores: Annotated[
        ScoreSource,
        typer.Option(
            help="Confidences. auto: the lines' scores, else log-probabilities, else constant."
        ),
    ] = ScoreSource.auto,
    dialect: DialectOption = None,
    field_order: FieldOrderOption = None,
    frame: FrameOption = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class list: one name per line, or a JSON list."),
    ] = None,
    synonyms: SynonymsOption = None,
    semantic: SemanticOption = None,
    semantic_threshold: SemanticThresholdOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write.  [default: RUN/score]")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print metrics.json.")] = False,
) -> None:
    """Parse, match and score what a model wrote; print the report and store the tables.

    The scores of a run directory go to RUN/score (RUN/score@NAME under another protocol); those
    of a bare file are printed, and stored only with --out. A run that is not finished is scored
    as far as it goes, and marked partial.

    Examples: coordeval score runs/x; coordeval score dump.jsonl --dialect coordjson-bins --frame
    unit-1000 --json; coordeval score runs/x --protocol coordexp
    """
    from coordeval.errors import ConfigError

    rules = scoring_protocol(run, synonyms, semantic, semantic_threshold, name=protocol)
    if frame is not None and rules.frame not in (None, frame):
        raise ConfigError(f"--frame {frame}: the protocol {protocol} reads bins as {rules.frame}")
    opened = open_with_reading(run, dialect=dialect, field_order=field_order, frame=frame)
    result = _score(
        opened,
        protocol=rules,
        score_source=scores.value,
        categories=_read_classes(classes) if classes is not None else None,
    )
    folder = out
    if folder is None and opened.is_directory:
        folder = run / ("score" if protocol == "coordeval" else f"score@{protocol}")
    reading = {
        "dialect": dialect,
        "field_order": field_order,
        "frame": frame,
        "synonyms": synonyms,
        "semantic": semantic,
        "semantic_threshold": semantic_threshold,
    }
    _finish(opened, result, folder, json_output=json_output, reading=reading)


def open_with_reading(
    path: Path, *, dialect: str | None, field_order: str | None, frame: str | None
) -> Run:
    """Open a run, with another reading than its own where options ask for one.

    A run that does not say how its texts are read (a bare file) is read as coordeval.toml says.
    What is torn, lost or missing in it is said on stderr.
    """
    from coordeval.cli.reading import by_default, read_as
    from coordeval.run_damage import damage
    from coordeval.runs import open_run

    opened = open_run(path)
    for sentence in damage(opened):
        from coordeval.reports.printable import printable

        typer.echo(f"warning: {printable(sentence)}", err=True)
    if dialect is None:
        dialect, frame = by_default(opened, frame)
    return read_as(opened, dialect=dialect, field_order=field_order, frame=frame)


def score_and_print(
    run_path: Path, json_output: bool, *, about: dict[str, Any] | None = None
) -> ScoreResult:
    """Score a run directory as `coordeval score` does without options: store and print.

    `about` stands beside the metrics in the JSON document.
    """
    from coordeval.runs import open_run

    opened = open_run(run_path)
    rules = scoring_protocol(run_path, None, None, None)
    result = _score(opened, protocol=rules, score_source="auto", categories=None)
    _finish(opened, result, run_path / "score", json_output=json_output, about=about)
    return result


def _score(run: Run, **options: object) -> ScoreResult:
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from coordeval.metrics.score import score_run
    from coordeval.reports.console import progress_console

    console = progress_console()
    with Progress(
        SpinnerColumn(),
        TextColumn("scoring: {task.completed:,} images"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("scoring", total=None)
        return score_run(
            run,
            progress=lambda done: progress.update(task, completed=done),
            **options,  # type: ignore[arg-type]
        )


def _finish(
    run: Run,
    result: ScoreResult,
    folder: Path | None,
    *,
    json_output: bool,
    about: dict[str, Any] | None = None,
    reading: Mapping[str, object] | None = None,
) -> None:
    from coordeval.errors import DataError, RunIncomplete

    warn_of_idle_synonyms(result)
    not_stored: DataError | None = None
    if folder is not None:
        from coordeval.metrics.write import write_score

        try:
            write_score(result, folder)
        except DataError as error:
            not_stored = error  # the numbers are there: they are shown before this is told
    if json_output:
        from coordeval.jsonl import dump_line

        typer.echo(dump_line((about or {}) | result.to_json()).decode().rstrip())
    else:
        from coordeval.cli.inspect import inspect_command
        from coordeval.reports.console import result_console
        from coordeval.reports.printable import printable
        from coordeval.reports.terminal import score_report

        console = result_console()
        console.print(score_report(result, name=str(run.path), meta=run.meta))
        if folder is not None and not_stored is None:
            console.print()
            look = inspect_command(run.path, reading=reading)
            console.print(f"scores: {printable(str(folder))}    next: {look}", soft_wrap=True)
    if not_stored is not None:
        raise not_stored
    if result.status == "empty":
        raise RunIncomplete(f"{run.path}: nothing to evaluate: it holds no rollout without error")


def _read_classes(path: Path) -> list[Category]:
    """The list that `rollout --classes` would take, with ids from 1."""
    from coordeval.data.class_list import read_class_list
    from coordeval.errors import ConfigError
    from coordeval.records import Category

    try:
        names = read_class_list(path)
    except ConfigError as error:
        raise ConfigError(f"--classes: {error}") from None
    return [Category(id=number, name=name) for number, name in enumerate(names, start=1)]


__all__ = ["open_with_reading", "score", "score_and_print"]
