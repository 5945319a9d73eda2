"""`coordeval overlay RUN ID -o x.png`: what was written about an image, drawn into it."""

from __future__ import annotations

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


def overlay(
    run: RunArgument,
    image_id: Annotated[str, typer.Argument(metavar="ID", help="The sample to draw.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="x.png, or x.svg as vectors.")
    ],
    image_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the images.  [default: the run's]"),
    ] = None,
    gt: Annotated[bool, typer.Option("--gt/--no-gt", help="Ground truth.")] = True,
    right: Annotated[bool, typer.Option("--right/--no-right", help="Right predictions.")] = True,
    wrong: Annotated[bool, typer.Option("--wrong/--no-wrong", help="Wrong predictions.")] = True,
    duplicates: Annotated[
        bool, typer.Option("--duplicates/--no-duplicates", help="Copies of earlier records.")
    ] = True,
    dropped: Annotated[
        bool, typer.Option("--dropped/--no-dropped", help="Dropped records that have a place.")
    ] = True,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Names at boxes.")] = True,
    dialect: DialectOption = None,
    field_order: FieldOrderOption = None,
    frame: FrameOption = None,
    synonyms: SynonymsOption = None,
    semantic: SemanticOption = None,
    semantic_threshold: SemanticThresholdOption = None,
) -> None:
    """Draw ground truth and right, wrong, duplicate and dropped records, with a legend.

    Small images are enlarged. Without the image file, the boxes stand on a plain canvas.

    Example: coordeval overlay runs/x 0017 -o 0017.png --no-gt
    """
    from coordeval.metrics.score import score_run
    from coordeval.reports.overlay import overlay_image, write_overlay
    from coordeval.reports.printable import printable

    opened = open_with_reading(run, dialect=dialect, field_order=field_order, frame=frame)
    shown = {
        "gt": gt,
        "missed": gt,
        "right": right,
        "wrong": wrong,
        "duplicate": duplicates,
        "dropped": dropped,
    }
    rules = scoring_protocol(run, synonyms, semantic, semantic_threshold)
    result = score_run(opened, protocol=rules)
    warn_of_idle_synonyms(result)
    scene, picture = overlay_image(
        result,
        image_id,
        image_root=image_root or opened.image_root,
        hidden=frozenset(name for name, keep in shown.items() if not keep),
        labels=labels,
    )
    write_overlay(scene, picture, out)
    for note, _ in scene.notes:
        typer.echo(printable(note), err=True)
    typer.echo(printable(str(out)))


__all__ = ["overlay"]
