"""`coordeval check RUN`: gates for CI, with one verdict and one exit code."""

from __future__ import annotations

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
    ScoreSource,
    open_with_reading,
)
from coordeval.counted import counted

if TYPE_CHECKING:
    from coordeval.metrics.protocols import Protocol
    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.gates import Gate
    from coordeval.stats.gates_check import CheckResult


def check(
    run: RunArgument,
    *,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The baseline that changes are held against."),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GATE",
            help="'coco/AP:-0.5pt', 'parse/drop_rate:+10%,+0.2pt', 'f1/0.50/f1>=0.8'; repeatable.",
        ),
    ] = None,
    gates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML or YAML with gates; [gates] of coordeval.toml counts as well.",
        ),
    ] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Write --baseline from this run; no gates.")
    ] = False,
    intervals: Annotated[
        bool,
        typer.Option(
            "--intervals", help="Fail only where the 95 % interval lies beyond what is allowed."
        ),
    ] = False,
    github: Annotated[
        bool, typer.Option("--github", help="Append the table to $GITHUB_STEP_SUMMARY.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table as Markdown.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="Evaluation protocol: coordeval, coordexp, rex-omni.")
    ] = "coordeval",
    scores: Annotated[
        ScoreSource, typer.Option(help="Confidences, as for score.")
    ] = ScoreSource.auto,
    dialect: DialectOption = None,
    field_order: FieldOrderOption = None,
    frame: FrameOption = None,
    synonyms: SynonymsOption = None,
    semantic: SemanticOption = None,
    semantic_threshold: SemanticThresholdOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Hold a run against gates: limits on its numbers, and on how much worse they may get.

    Exit code 0: all gates hold; 1: one does not (failing ones are listed first); 2: a gate or an
    option is wrong; 3: nothing could be evaluated; 4: the baseline is not comparable.

    Examples: coordeval check runs/x --baseline base.json --update-baseline;
    coordeval check runs/x --baseline base.json --gate "coco/AP:-0.5pt" --github
    """
    from coordeval.errors import CoordevalError

    fault: CoordevalError | None = None
    try:
        rules = scoring_protocol(run, synonyms, semantic, semantic_threshold, name=protocol)
        scored = _scored(run, rules, scores, dialect, field_order, frame)
        warn_of_idle_synonyms(scored)
        if update_baseline:
            _update(scored, run, baseline)
            return
        found = _check(scored, run, baseline, _gates(run, gate, gates), with_intervals=intervals)
    except CoordevalError as error:
        from coordeval.stats.gates_check import CheckResult

        fault = error
        found = CheckResult(run=str(run), baseline=_text(baseline), fault=error)
    _print(found, json_output=json_output)  # first: the files may not be writable
    _export(found, github=github, junit=junit, markdown=markdown)
    if fault is not None:
        raise fault
    raise typer.Exit(found.exit_code)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _scored(
    run: Path,
    protocol: Protocol,
    scores: ScoreSource,
    dialect: str | None,
    field_order: str | None,
    frame: str | None,
) -> ScoreResult:
    from coordeval.metrics.score import score_run

    opened = open_with_reading(run, dialect=dialect, field_order=field_order, frame=frame)
    return score_run(opened, protocol=protocol, score_source=scores.value)


def _gates(run: Path, gate: list[str] | None, gates: Path | None) -> list[Gate]:
    """Gates of coordeval.toml, the file and the options; the later ones override by key."""
    from coordeval.config import load_defaults
    from coordeval.stats.gates import parse_gate
    from coordeval.stats.gates_files import gates_of, merge_gates, read_gates_file

    defaults = load_defaults(Path.cwd(), near=run)
    return merge_gates(
        gates_of(defaults.gates, f"{defaults.source}: [gates]"),
        read_gates_file(gates) if gates is not None else [],
        [parse_gate(text) for text in gate or ()],
    )


def _check(
    scored: ScoreResult,
    run: Path,
    baseline: Path | None,
    gates: list[Gate],
    *,
    with_intervals: bool,
) -> CheckResult:
    from coordeval.stats.baseline import read_baseline
    from coordeval.stats.gates_check import check_run

    return check_run(
        scored,
        gates,
        read_baseline(baseline) if baseline is not None else None,
        run=str(run),
        baseline_path=_text(baseline),
        with_intervals=with_intervals,
    )


def _update(scored: ScoreResult, run: Path, baseline: Path | None) -> None:
    from coordeval.errors import ConfigError, RunIncomplete
    from coordeval.reports.printable import printable
    from coordeval.stats.baseline import make_baseline, write_baseline

    if baseline is None:
        raise ConfigError("--update-baseline needs --baseline FILE, the file to write")
    if scored.status != "complete":
        raise RunIncomplete(f"{run}: {scored.status}: a baseline needs a finished run")
    write_baseline(make_baseline(scored, name=run.name), baseline)
    where = printable(str(baseline))
    typer.echo(f"baseline written: {where} ({counted(len(scored.metrics), 'metric')})", err=True)


def _export(found: CheckResult, *, github: bool, junit: Path | None, markdown: Path | None) -> None:
    import os

    if junit is not None:
        from coordeval.reports.junit import check_junit

        _write(junit, check_junit(found), "--junit")
    if not github and markdown is None:
        return
    from coordeval.reports.gate_markdown import check_markdown

    text = check_markdown(found).encode("utf-8", "replace")
    if markdown is not None:
        _write(markdown, text, "--markdown")
    if github:
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if not summary:
            typer.echo("note: GITHUB_STEP_SUMMARY is not set; no summary is written", err=True)
            return
        _write(Path(summary), text + b"\n", "$GITHUB_STEP_SUMMARY", append=True)


def _write(path: Path, data: bytes, what: str, *, append: bool = False) -> None:
    from coordeval.atomic import output_file
    from coordeval.errors import DataError

    try:
        if append:
            with path.open("ab") as handle:
                handle.write(data)
        else:
            with output_file(path) as place:
                place.write_bytes(data)
    except OSError as error:
        raise DataError(f"{what} {path}: cannot be written: {error.strerror or error}") from None


def _print(found: CheckResult, *, json_output: bool) -> None:
    if json_output:
        from coordeval.jsonl import dump_line

        typer.echo(dump_line(found.to_json()).decode().rstrip())
    elif found.fault is None:
        from coordeval.reports.console import result_console
        from coordeval.reports.gate_table import check_report

        result_console().print(check_report(found))


__all__ = ["check"]
