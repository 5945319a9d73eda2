"""`coordeval import DUMP... --out RUN`: monitor dumps and raw rollouts as a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coordeval.exchange.importing import ImportOptions, ImportSummary


def import_run(
    dumps: Annotated[
        list[Path],
        typer.Argument(
            metavar="DUMP...",
            help="monitor_dumps/ folders, step_*.json, gt_vs_pred.jsonl, raw_rollouts.jsonl.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run directory to write.")],
    dialect: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.toml|auto",
            help="How objects are written; auto proposes.  "
            "[default: coordeval.toml's, or coordjson]",
        ),
    ] = None,
    frame: Annotated[
        str | None,
        typer.Option(
            help="What a bin means.  [default: coordeval.toml's, the dialect's, or coordexp]"
        ),
    ] = None,
    gt_space: Annotated[
        str | None,
        typer.Option(
            metavar="pixels|bins", help="Ground-truth numbers, where the dump doesn't declare them."
        ),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the checkpoint that wrote them.")
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that the image paths start from.")
    ] = None,
    step: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Import only the dump of this step.")
    ] = None,
    per_step: Annotated[
        bool, typer.Option("--per-step", help="One run per step: RUN/step-N, ready to compare.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Turn dumps with verbatim texts into a run directory that every other command reads.

    Everything else that the dumps hold goes to RUN/imported.jsonl. Their own drop counts are set
    beside what is found in the texts. What cannot be imported is counted under a reason.

    Examples: coordeval import out/monitor_dumps --step 300 --out runs/step-300;
    coordeval score runs/step-300
    """
    from coordeval.cli.reading import reading_defaults
    from coordeval.errors import ConfigError
    from coordeval.exchange.importing import ImportOptions
    from coordeval.parsers.dialects import DEFAULT_DIALECT

    if step is not None and per_step:
        raise ConfigError("--step and --per-step: choose one")
    if dialect is None:
        dialect, frame = reading_defaults(dumps[0], frame)
    options = ImportOptions(
        sources=tuple(dumps),
        out=out,
        dialect=dialect or DEFAULT_DIALECT,
        frame=frame,
        gt_space=gt_space,
        checkpoint=checkpoint,
        image_root=image_root,
        step=step,
    )
    summaries = _import_all(_with_dialect(options), per_step=per_step)
    if json_output:
        from coordeval.jsonl import dump_line

        documents = [summary.to_json() for summary in summaries]
        document = documents if per_step else documents[0]
        typer.echo(dump_line(document).decode().rstrip())
        return
    from coordeval.reports.console import result_console
    from coordeval.reports.importing import render_import

    console = result_console()
    for summary in summaries:
        console.print(render_import(summary), soft_wrap=True)


def _with_dialect(options: ImportOptions) -> ImportOptions:
    """The options with the dialect that `auto` leads to; ConfigError where it leads to none."""
    from dataclasses import replace

    from coordeval.cli.auto_dialect import decide_dialect
    from coordeval.coords import DEFAULT_FRAME, frame_named
    from coordeval.exchange.importing import sample_texts
    from coordeval.parsers.dialects import AUTO_DIALECT
    from coordeval.parsers.proposing import candidates_in

    if options.dialect != AUTO_DIALECT:
        return options
    frame = frame_named(options.frame or DEFAULT_FRAME)
    candidates = candidates_in(None if options.frame is None else frame)
    where = str(options.sources[0])
    proposal = decide_dialect(sample_texts(options), frame, where=where, candidates=candidates)
    assert proposal.chosen is not None
    return replace(options, dialect=proposal.chosen, dialect_proposal=proposal.to_json())


def _import_all(options: ImportOptions, *, per_step: bool) -> list[ImportSummary]:
    from dataclasses import replace

    from coordeval.errors import DataError
    from coordeval.exchange.dump_files import find_dumps, read_rows
    from coordeval.exchange.importing import import_dumps

    if not per_step:
        return [import_dumps(options)]
    files_of_step: dict[int, list[Path]] = {}
    for dump in find_dumps(options.sources):
        steps = {row.step for row in read_rows(dump)}
        if None in steps:
            raise DataError(f"{dump.path}: names no step; import it without --per-step")
        for step in sorted(step for step in steps if step is not None):
            files_of_step.setdefault(step, []).append(dump.path)
    if not files_of_step:
        raise DataError("--per-step: the dumps hold no sample")
    return [
        import_dumps(
            replace(options, sources=tuple(files), step=step, out=options.out / f"step-{step}")
        )
        for step, files in sorted(files_of_step.items())
    ]


__all__ = ["import_run"]
