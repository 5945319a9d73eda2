"""`coordeval demo`: the fixture runs replayed and scored, or the fixture checkpoints decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CHECKPOINTS = ("shapes-final", "ckpt-300", "ckpt-2400")


def demo(
    rollout: Annotated[
        bool,
        typer.Option("--rollout", help="Decode the fixture checkpoints for real (extra hf)."),
    ] = False,
    fixtures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The fixtures folder.  [default: found beside the code]"),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where --rollout writes its runs.")
    ] = Path("runs/demo"),
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """See in a minute what coordeval does: a sound checkpoint, and one that has come apart.

    It needs the fixtures folder of a checkout, and no other data. Without options it scores
    recorded runs and needs no model library. With --rollout it decodes
    tiny Qwen3-VL checkpoints on 64 held-out scenes, on the CPU.
    """
    from coordeval.cli.inspect import inspect_command
    from coordeval.jsonl import dump_line
    from coordeval.metrics.score import score_run
    from coordeval.reports.console import result_console
    from coordeval.reports.terminal import score_report
    from coordeval.runs import open_run

    folder = _fixtures_folder(fixtures)
    runs = _decode(folder, out) if rollout else [folder / "runs" / c for c in CHECKPOINTS]
    results = [(run, open_run(run), score_run(open_run(run))) for run in runs]
    if json_output:
        document = {run.name: result.to_json() for run, _, result in results}
        typer.echo(dump_line(document).decode().rstrip())
        return
    console = result_console()
    for run, opened, result in results:
        console.rule()
        console.print(score_report(result, name=str(run), meta=opened.meta))
    last = results[-1]
    worst = last[2].worst_images(1)
    console.rule()
    console.print(f"what was written there: coordeval inspect {last[0]}", soft_wrap=True)
    if worst:
        console.print(f"one sample of it: {inspect_command(last[0], worst[0].id)}", soft_wrap=True)


def _fixtures_folder(given: Path | None) -> Path:
    from coordeval.errors import ConfigError

    candidates = (
        [given]
        if given is not None
        else [
            Path(__file__).resolve().parents[2] / "fixtures",
            Path("fixtures"),
        ]
    )
    for folder in candidates:
        if (folder / "scenes").is_dir():
            return folder
    raise ConfigError(
        "the fixtures are not here: run this in a checkout of the repository, "
        "or name the folder with --fixtures"
    )


def _decode(folder: Path, out: Path) -> list[Path]:
    from coordeval.cli.rollout import roll_out_and_show
    from coordeval.engines.options import RolloutOptions

    runs = []
    for name in CHECKPOINTS:
        options = RolloutOptions(
            checkpoint=str(folder / name),
            data=folder / "scenes" / "heldout.jsonl",
            runs_dir=out,
            out=out / name,
            engine="hf",
            batch_size=32,
        )
        runs.append(roll_out_and_show(options).path)
    return runs


__all__ = ["demo"]
