"""`coordeval probe CKPT RUN`: one teacher-forced pass over ground truth and rollouts."""

from __future__ import annotations

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordeval.cli.rollout_options import AttentionName, DtypeName, FieldOrderName
from coordeval.cli.score import RunArgument
from coordeval.counted import counted

if TYPE_CHECKING:
    from typing import Self

    from coordeval.training.probe.options import ProbeOptions
    from coordeval.training.probe.result import ProbeResult

LINE_EVERY_S = 10.0


class TextsName(StrEnum):
    """Which texts the model is forced through."""

    gt = "gt"
    rollouts = "rollouts"
    both = "both"


def probe(  # noqa: PLR0917 - one parameter per option
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CKPT", help="Checkpoint folder or hub id; any, not only RUN's."),
    ],
    run: RunArgument,
    texts: Annotated[
        TextsName, typer.Option(help="Ground truth, what RUN's model wrote, or both.")
    ] = TextsName.both,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Dataset.  [default: the run's]")
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images.  [default: the run's]")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.toml", help="Prompt file; or open, closed.  [default: the run's]"
        ),
    ] = None,
    pixels: Annotated[
        str | None,
        typer.Option(metavar="none|MIN:MAX", help="Pixel limits.  [default: the run's]"),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(help="How objects are written.  [default: the run's]")
    ] = None,
    field_order: Annotated[
        FieldOrderName | None, typer.Option(help="Order of fields.  [default: the run's]")
    ] = None,
    frame: Annotated[
        str | None, typer.Option(help="What a bin means.  [default: the run's]")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N images of RUN.")] = None,
    ids: Annotated[
        str | None,
        typer.Option(metavar="FILE|a,b,c", help="Only these ids (a file: one per line)."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts at once.  [default: 8]")] = None,
    dtype: Annotated[
        DtypeName | None, typer.Option(help="auto: bf16 on CUDA, fp32 on the CPU.  [default: auto]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to run.  [default: auto]")
    ] = None,
    attn: Annotated[AttentionName, typer.Option(help="Attention.")] = AttentionName.auto,
    adapter: Annotated[
        Path | None, typer.Option(metavar="DIR", help="PEFT adapter on top of the checkpoint.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the checkpoint brings.")
    ] = False,
    max_errors: Annotated[int, typer.Option(min=0, help="Failed texts that are accepted.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to write.  [default: RUN/probe/<checkpoint>-<hash>]"
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print metrics.json.")] = False,
) -> None:
    """Force a model through texts, and say what it expected at every coordinate.

    The ground truth context is what training shows the model; the own rollout context is what it
    meets when it decodes by itself. Both side by side, on the same boxes, measure exposure bias.
    Results go to RUN/probe (those of a bare file are printed, and stored only with --out). Exit
    code 3: more texts failed than --max-errors, or nothing could be probed.

    Example: coordeval probe fixtures/ckpt-2400 fixtures/runs/ckpt-2400
    """
    options = _options(
        checkpoint=checkpoint,
        run=run,
        texts=texts.value,
        data=data,
        image_root=image_root,
        prompt=prompt,
        pixels=pixels,
        dialect=dialect,
        field_order=None if field_order is None else field_order.value,
        frame=frame,
        limit=limit,
        ids=ids,
        batch_size=batch_size,
        dtype=None if dtype is None else dtype.value,
        device=device,
        attention=attn.value,
        adapter=adapter,
        trust_remote_code=trust_remote_code,
    )
    result = _probe(options)
    folder = out
    if folder is None and run.is_dir():
        folder = run / "probe" / result.name
    _finish(result, folder, max_errors=max_errors, json_output=json_output)


def _options(**given: Any) -> ProbeOptions:
    """Options from the command line, else from coordeval.toml, else built in."""
    from coordeval.config import load_defaults
    from coordeval.training.probe.options import ProbeOptions

    defaults = load_defaults(Path.cwd(), near=given["run"])
    for key in ("batch_size", "device", "dtype"):
        if given[key] is None:
            given[key] = defaults.decode.get(key)
    known = {key: value for key, value in given.items() if value is not None}
    return ProbeOptions(
        **known,
        default_data=defaults.data,
        default_image_root=defaults.image_root,
        default_prompt=None if defaults.prompt is None else str(defaults.prompt),
        default_pixels=defaults.pixels,
        default_dialect=defaults.dialect,
        default_frame=defaults.frame,
    )


def _probe(options: ProbeOptions) -> ProbeResult:
    from coordeval.engines.extras import require_extra

    require_extra("probing a checkpoint", "hf")
    # Spinning threads starve one another where other work shares the cores; it has to be set
    # before torch loads its thread pool.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from coordeval.training.probe.checkpoint import probe_checkpoint

    with _Progress() as progress:
        return probe_checkpoint(
            options,
            on_progress=progress.show,
            notify=lambda message: progress.note(f"warning: {message}"),
            handle_signals=True,
        )


class _Progress:
    """A bar on a terminal, now and then a line elsewhere; on stderr."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from coordeval.reports.console import progress_console

        self._console = progress_console()
        self._bar = Progress(
            TextColumn("probe"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("probe", total=None)
        self._last_line_at: float | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """Show how many images are done; lines at the start, every ten seconds and at the end."""
        self._bar.update(self._task, completed=done, total=total)
        if self._console.is_terminal:
            return
        now = time.monotonic()
        due = self._last_line_at is None or now - self._last_line_at >= LINE_EVERY_S
        if due or done == total:
            self._last_line_at = now
            self.note(f"probe {done}/{total}")

    def note(self, message: str) -> None:
        """Print a line to stderr."""
        from coordeval.reports.printable import printable

        self._console.print(printable(message), soft_wrap=True)


def _finish(
    result: ProbeResult, folder: Path | None, *, max_errors: int, json_output: bool
) -> None:
    from coordeval.errors import EXIT_INCOMPLETE, RunIncomplete
    from coordeval.reports.printable import printable

    if folder is not None:
        from coordeval.training.probe.result import write_probe

        write_probe(result, folder)
    if json_output:
        from coordeval.jsonl import dump_line

        stored = None if folder is None else str(folder)
        typer.echo(dump_line({"probe": stored} | result.to_json()).decode().rstrip())
    else:
        from coordeval.reports.console import result_console
        from coordeval.training.probe.report import probe_report

        console = result_console()
        console.print(probe_report(result))
        if folder is not None:
            console.print()
            console.print(printable(f"stored: {folder}"), soft_wrap=True)
    if result.stopped_by is not None:
        kept = "shown above" if folder is None else f"stored in {printable(str(folder))}"
        typer.echo(f"stopped: what was done until then is {kept}", err=True)
        raise typer.Exit(result.stopped_by)
    if result.status == "empty":
        first = f" ({result.errors[0].message})" if result.errors else ""
        raise RunIncomplete(f"{result.settings['run']['path']}: no text could be probed{first}")
    if len(result.errors) > max_errors:
        errors = counted(len(result.errors), "error is", "errors are")
        typer.echo(f"{errors} more than --max-errors {max_errors}", err=True)
        raise typer.Exit(EXIT_INCOMPLETE)


__all__ = ["probe"]
