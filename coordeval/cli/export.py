"""`coordeval export RUN --to FORMAT -o OUT`: a scored run in other tools' formats."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

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


class Format(StrEnum):
    """What can be written."""

    coco = "coco"
    fiftyone = "fiftyone"
    labelstudio = "labelstudio"
    csv = "csv"
    parquet = "parquet"


def export(
    run: RunArgument,
    to: Annotated[Format, typer.Option("--to", help="The format to write.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="OUT", help="A folder; for csv and parquet a file."),
    ],
    image_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the images.  [default: the run's]"),
    ] = None,
    image_prefix: Annotated[
        str | None,
        typer.Option(metavar="URL", help="labelstudio: what stands before each image path."),
    ] = None,
    dialect: DialectOption = None,
    field_order: FieldOrderOption = None,
    frame: FrameOption = None,
    synonyms: SynonymsOption = None,
    semantic: SemanticOption = None,
    semantic_threshold: SemanticThresholdOption = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the files and remarks as JSON.")
    ] = False,
) -> None:
    """Write a run's detections and ground truth for COCO tools, FiftyOne, Label Studio, or tables.

    coco: results.json and ground_truth.json. fiftyone: metadata.json and samples.json.
    labelstudio: tasks.json and label_config.xml. csv, parquet: one row per object.

    Example: coordeval export runs/x --to fiftyone -o out/x
    """
    from coordeval.exchange.export_context import ExportContext
    from coordeval.exchange.exporting import export_run
    from coordeval.metrics.score import score_run

    opened = open_with_reading(run, dialect=dialect, field_order=field_order, frame=frame)
    context = ExportContext(
        name=opened.path.resolve().name,
        image_root=image_root or opened.image_root,
        image_prefix=image_prefix,
    )
    rules = scoring_protocol(run, synonyms, semantic, semantic_threshold)
    result = score_run(opened, protocol=rules)
    warn_of_idle_synonyms(result)
    done = export_run(result, to.value, out, context)
    if json_output:
        from coordeval.jsonl import dump_line

        typer.echo(dump_line(done.to_json()).decode().rstrip())
        return
    from coordeval.reports.printable import printable

    for path in done.paths:
        typer.echo(printable(str(path)))
    for remark in done.remarks:
        typer.echo(printable(remark), err=True)


__all__ = ["export"]
