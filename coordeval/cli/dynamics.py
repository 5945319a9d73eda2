"""`coordeval dynamics LOG...`: what training logs say, and what they can't be asked."""

from __future__ import annotations

from typing import Annotated

import typer


def dynamics(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_EVENTFILE...",
            help="Training folders, TensorBoard event files, trainer_state.json, logging.jsonl, "
            "train_log.jsonl; each may be named: NAME=PATH.",
        ),
    ],
    image_size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Show errors in bins as pixels of such an image."),
    ] = None,
    patch: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Side of a patch in pixels.  [default: 32]"),
    ] = None,
    frame: Annotated[
        str | None, typer.Option(help="What a bin means.  [default: coordexp]")
    ] = None,
    at: Annotated[
        list[int] | None,
        typer.Option(
            metavar="STEP",
            help="Compare at this evaluation step; repeatable.  [default: the last common ones]",
        ),
    ] = None,
    accumulation: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Micro-batches per optimizer step, where logs don't say it."
        ),
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show keys that no table of metrics knows, too.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    curves: Annotated[
        bool, typer.Option("--curves", help="With --json: every series as well.")
    ] = False,
) -> None:
    """Read training logs: last values, train/eval ratios, plateaus and turning points, warnings.

    Keys of other tools are shown under this tool's names (docs/metrics.md).

    Examples: coordeval dynamics out/run-a out/run-b --image-size 640x640;
    coordeval dynamics tb/events.out.tfevents.1 --json
    """
    from coordeval.dynamics.analysis import analyse
    from coordeval.dynamics.discover import read_logs
    from coordeval.dynamics.units import parse_image_size
    from coordeval.errors import ConfigError

    if image_size is None and (patch is not None or frame is not None):
        raise ConfigError("--patch and --frame need --image-size WxH")
    if markdown and json_output:
        raise ConfigError("--markdown and --json: choose one")
    if curves and not json_output:
        raise ConfigError("--curves needs --json")
    scale = None
    if image_size is not None:
        scale = parse_image_size(image_size, patch=patch, frame=frame)
    found = analyse(read_logs(logs), scale=scale, at=at or (), accumulation=accumulation)
    if json_output:
        from coordeval.jsonl import dump_line

        typer.echo(dump_line(found.to_json(curves=curves)).decode().rstrip())
        return
    from coordeval.reports.dynamics import dynamics_sections, render_markdown, render_terminal

    sections = dynamics_sections(found, show_all=show_all)
    if markdown:
        typer.echo(render_markdown(sections))
        return
    from coordeval.reports.console import result_console

    result_console().print(render_terminal(sections))


__all__ = ["dynamics"]
