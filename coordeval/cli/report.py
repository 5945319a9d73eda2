"""`coordeval report RUN [RUN ...]`: one page with figures and a gallery, or a single figure."""

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
from coordeval.cli.report_training import (
    AccumulationOption,
    CurveOption,
    ImageSizeOption,
    LogsOption,
    PatchOption,
    TrainingOptions,
)
from coordeval.cli.score import DialectOption, FieldOrderOption, FrameOption, open_with_reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.dynamics.analysis import Dynamics
    from coordeval.metrics.protocols import Protocol
    from coordeval.reports.charts.figure import Figure
    from coordeval.reports.charts.shown import ShownRun
    from coordeval.reports.html.report import Report
    from coordeval.reports.html.training import TrainingPart
    from coordeval.runs import Run

REPORT_NAME = "report.html"
DYNAMICS = "dynamics"
"""The one figure that is drawn from training logs."""


class FigureFormat(StrEnum):
    """Files that a single figure is written to."""

    svg = "svg"
    png = "png"


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Run directories, or JSONL files of rollout lines."),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write.  [default: RUN/report.html; report.html unless for one RUN]",
        ),
    ] = None,
    thumbnails: Annotated[
        int, typer.Option(min=0, metavar="N", help="Embed at most N images, the worst first.")
    ] = 200,
    image_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where image paths start from.  [default: the run's]"),
    ] = None,
    figure: Annotated[
        str | None, typer.Option(metavar="NAME", help="Write this figure alone, to a file.")
    ] = None,
    form: Annotated[
        FigureFormat | None,
        typer.Option("--format", help="Format of the single figure.  [default: by FILE, or svg]"),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="Evaluation protocol: coordeval, coordexp, rex-omni.")
    ] = "coordeval",
    dialect: DialectOption = None,
    field_order: FieldOrderOption = None,
    frame: FrameOption = None,
    synonyms: SynonymsOption = None,
    semantic: SemanticOption = None,
    semantic_threshold: SemanticThresholdOption = None,
    logs: LogsOption = None,
    curve: CurveOption = None,
    image_size: ImageSizeOption = None,
    patch: PatchOption = None,
    accumulation: AccumulationOption = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print what was written as one JSON document.")
    ] = False,
) -> None:
    """Write one self-contained page: numbers, figures, and every image with what was written.

    The page opens from disk and fetches nothing. Several runs stand side by side; the first one
    is what the others are measured against. Training logs get a section of their own.

    Examples: coordeval report runs/x; coordeval report runs/a runs/b -o ab.html;
    coordeval report runs/x --figure drops --format png -o drops.png;
    coordeval report --logs out/run-a --logs out/run-b
    """
    from coordeval.errors import ConfigError

    if image_root is not None and not image_root.is_dir():
        raise ConfigError(f"--image-root {image_root}: there is no such folder")
    paths = runs or []
    options = TrainingOptions(
        logs=tuple(logs or ()),
        curves=tuple(curve or ()),
        image_size=image_size,
        patch=patch,
        frame=frame,
        accumulation=accumulation,
    )
    options.check(num_runs=len(paths))
    _check_figure(figure, form, has_runs=bool(paths), has_logs=bool(options.logs))
    opened = [
        open_with_reading(path, dialect=dialect, field_order=field_order, frame=frame)
        for path in paths
    ]
    near = paths[0] if paths else None
    rules = scoring_protocol(near, synonyms, semantic, semantic_threshold, name=protocol)
    with _progress() as on_stage:
        training = options.read()
        if figure == DYNAMICS and training is not None:
            drawn = _training_figure(training, options)
            _write_figure(drawn, form, output, json_output=json_output)
            return
        part = None if training is None else _training_part(training, options)
        scored = _scored(opened, rules, on_stage)
        if figure is not None:
            _write_figure(_run_figure(figure, scored), form, output, json_output=json_output)
            return
        page = _page(scored, part, thumbnails, image_root, on_stage)
    folder = opened[0].path if len(opened) == 1 and opened[0].is_directory else Path()
    _write_page(page, scored, part, output or folder / REPORT_NAME, json_output=json_output)
    _refuse_empty(scored)


def _check_figure(
    figure: str | None, form: FigureFormat | None, *, has_runs: bool, has_logs: bool
) -> None:
    """Refuse options of single figures that do not fit, before anything is read."""
    from coordeval.errors import ConfigError
    from coordeval.reports.charts.figures import FIGURE_NAMES, require_figure

    if figure is None:
        if form is not None:
            raise ConfigError(f"--format needs --figure NAME: one of {', '.join(FIGURE_NAMES)}")
        return
    require_figure(figure)
    if figure == DYNAMICS and not has_logs:
        raise ConfigError(f"--figure {figure} needs training logs: --logs LOG")
    if figure != DYNAMICS and not has_runs:
        raise ConfigError(f"--figure {figure} needs a RUN")


def _run_figure(name: str, scored: list[ShownRun]) -> Figure:
    from coordeval.reports.charts.figures import figure_named

    return figure_named(name, scored)


def _training_figure(training: Dynamics, options: TrainingOptions) -> Figure:
    from coordeval.reports.charts.figures import dynamics_figure

    return dynamics_figure(training, options.curves)


def _training_part(training: Dynamics, options: TrainingOptions) -> TrainingPart:
    from coordeval.reports.html.training import training_part

    return training_part(training, options.curves)


def _page(
    scored: list[ShownRun],
    part: TrainingPart | None,
    thumbnails: int,
    image_root: Path | None,
    on_stage: Callable[[str], None],
) -> Report:
    """The page of runs, with what the training logs say; or that alone."""
    if part is not None and not scored:
        from coordeval.reports.html.training_page import build_training_page

        return build_training_page(part)
    from coordeval.reports.html.report import build_report

    return build_report(
        scored,
        max_thumbnails=thumbnails,
        image_root=image_root,
        training=part,
        on_stage=on_stage,
    )


class _progress:  # noqa: N801 - used as a context manager
    """A line on stderr that says what is being done; nothing where stderr is not a terminal."""

    def __enter__(self) -> Callable[[str], None]:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from coordeval.reports.console import progress_console

        console = progress_console()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar.start()
        task = self._bar.add_task("reading", total=None)
        return lambda stage: self._bar.update(task, description=stage)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _scored(
    opened: list[Run], protocol: Protocol, on_stage: Callable[[str], None]
) -> list[ShownRun]:
    from coordeval.metrics.score import score_run
    from coordeval.reports.charts.shown import shown_runs
    from coordeval.reports.printable import printable

    scored = []
    for run in opened:
        on_stage(f"scoring {printable(run.name, limit=40)}")
        result = score_run(run, protocol=protocol)
        warn_of_idle_synonyms(result)
        scored.append((run, result))
    return shown_runs(scored)


def _write_figure(
    figure: Figure,
    form: FigureFormat | None,
    output: Path | None,
    *,
    json_output: bool,
) -> None:
    from coordeval.errors import ConfigError
    from coordeval.reports.charts.render import render

    if form is None:
        suffix = "svg" if output is None else output.suffix.removeprefix(".").lower()
        if suffix not in FigureFormat.__members__:
            raise ConfigError(f"-o {output}: name a .svg or .png file, or give --format")
        form = FigureFormat(suffix)
    data = render(figure, form.value)
    target = output or Path(f"{figure.name}.{form.value}")
    _write(target, data)
    _say({"figure": figure.name, "path": str(target), "bytes": len(data)}, json_output=json_output)


def _write_page(
    page: Report,
    runs: list[ShownRun],
    part: TrainingPart | None,
    target: Path,
    *,
    json_output: bool,
) -> None:
    data = page.html.encode()
    _write(target, data)
    pictures = page.thumbnails
    facts = {
        "path": str(target),
        "bytes": len(data),
        "runs": [shown.label for shown in runs],
        "images": page.images,
        "records": page.objects,
        "thumbnails": len(pictures.uris),
        "thumbnail_cap": pictures.cap,
        "images_missing": len(pictures.missing),
        "images_unnamed": pictures.unnamed,
        "images_beyond_cap": pictures.beyond_cap,
        "trainings": [] if part is None else list(part.names),
        "curves": 0 if part is None else len(part.curves),
    }
    _say(facts, json_output=json_output)
    if pictures.missing and not json_output:
        from coordeval.reports.printable import printable

        first = printable(next(iter(pictures.missing.values())), limit=200)
        number_missing = len(pictures.missing)
        typer.echo(
            f"images that could not be read, shown as plain frames: {number_missing} ({first})",
            err=True,
        )


def _say(facts: dict[str, Any], *, json_output: bool) -> None:
    from coordeval.counted import counted
    from coordeval.jsonl import dump_line
    from coordeval.reports.printable import printable

    if json_output:
        typer.echo(dump_line(facts).decode().rstrip())
        return
    parts = []
    if facts.get("runs"):
        parts += [counted(facts["images"], "image"), counted(facts["thumbnails"], "thumbnail")]
    if facts.get("trainings"):
        parts += [counted(len(facts["trainings"]), "training"), counted(facts["curves"], "curve")]
    parts.append(f"{facts['bytes'] / 1e6:.1f} MB")
    typer.echo(f"{printable(facts['path'])}  ({', '.join(parts)})")


def _write(target: Path, data: bytes) -> None:
    from coordeval.atomic import output_file
    from coordeval.errors import DataError

    try:
        with output_file(target) as place:
            place.write_bytes(data)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from None


def _refuse_empty(runs: list[ShownRun]) -> None:
    from coordeval.errors import RunIncomplete

    if runs and all(shown.result.status == "empty" for shown in runs):
        names = ", ".join(shown.label for shown in runs)
        raise RunIncomplete(f"{names}: nothing was evaluated: no sample without an engine error")


__all__ = ["report"]
