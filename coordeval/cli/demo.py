"""`coordeval demo`: the fixture runs replayed and scored, or the fixture checkpoints decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CHECKPOINTS = ("shapes-final", "ckpt-300", "ckpt-2400")
PACKAGED = Path(__file__).resolve().parents[1] / "demo_data"
"""Where a wheel carries recorded runs and their scenes (hatch_build.py puts them there)."""


def demo(
    rollout: Annotated[
        bool,
        typer.Option("--rollout", help="Decode the fixture checkpoints for real (extra hf)."),
    ] = False,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="The recorded runs inside the package: no model, no network."
        ),
    ] = False,
    fixtures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A checkout's fixtures folder.  [default: found beside the code, else packaged]",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where --rollout writes its runs.")
    ] = Path("runs/demo"),
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """See in a minute what coordeval does: a sound checkpoint, and one that has come apart.

    Without options it scores recorded runs, which are part of the package, and needs neither a
    model library nor a network. With --rollout it decodes the tiny Qwen3-VL checkpoints of a
    checkout's fixtures folder on 64 held-out scenes, on the CPU.
    """
    from coordeval.cli.inspect import inspect_command
    from coordeval.errors import ConfigError
    from coordeval.jsonl import dump_line
    from coordeval.metrics.score import score_run
    from coordeval.reports.console import result_console
    from coordeval.reports.terminal import score_report
    from coordeval.runs import open_run

    if offline and rollout:
        raise ConfigError("--offline shows recorded runs, --rollout makes new ones: take one")
    folder = _fixtures_folder(fixtures, offline=offline)
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
    console.print(f"what was written there: {inspect_command(last[0])}", soft_wrap=True)
    if worst:
        console.print(f"one sample of it: {inspect_command(last[0], worst[0].id)}", soft_wrap=True)


def _fixtures_folder(given: Path | None, *, offline: bool) -> Path:
    """The folder that holds `runs` and `scenes`; the packaged one goes first where offline."""
    from coordeval.errors import ConfigError

    checkout = Path(__file__).resolve().parents[2] / "fixtures"
    candidates = [checkout, Path("fixtures"), PACKAGED]
    if offline:
        candidates = [PACKAGED, checkout]
    if given is not None:
        candidates = [given]
    for folder in candidates:
        if all((folder / "runs" / name / "run.json").is_file() for name in CHECKPOINTS):
            return folder
    where = f"no recorded runs in {given}" if given else "the recorded runs are not here"
    raise ConfigError(
        f"{where}: name the fixtures folder of a checkout with --fixtures, "
        "or install the wheel, which carries them"
    )


def _decode(folder: Path, out: Path) -> list[Path]:
    from coordeval.cli.rollout import roll_out_and_show
    from coordeval.engines.options import RolloutOptions
    from coordeval.errors import ConfigError

    runs = []
    for name in CHECKPOINTS:
        if not (folder / name / "config.json").is_file():
            raise ConfigError(
                f"no checkpoint {folder / name}: --rollout needs a checkout of the repository, "
                "whose fixtures folder --fixtures names; --offline shows recorded runs"
            )
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
