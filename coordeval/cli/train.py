"""`coordeval train CONFIG`: train stage 1 or 2, with the evaluator in the loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordeval.counted import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.training.config import TrainConfig
    from coordeval.training.training_run import Resume, Trained


def train(
    config_path: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file; see docs/training.md.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a value: data.limit=100; repeatable."
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all that the stage reads, and exit.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything, one forward pass included; write nothing."
        ),
    ] = False,
    resume: Annotated[
        str,
        typer.Option(
            metavar="auto|never|PATH",
            help="Go on from the last whole checkpoint of output_dir, never, or from this one.",
        ),
    ] = "auto",
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train a checkpoint to write objects with coordinate tokens.

    `stage: 1` is teacher-forced; in `stage: 2` the model reads, or writes, its own answers.
    Runs under torchrun and accelerate launch too. Ctrl-C and SIGTERM finish the step and save a
    checkpoint (exit codes 130 and 143); a loss that is not finite ends the run with 3.

    Examples: coordeval train stage1.yaml --dry-run; coordeval train stage1.yaml --set seed=18 --set
    output_dir=runs/seed-18; coordeval train stage2.yaml --set model=runs/stage1/best;
    torchrun --nproc-per-node 8 -m coordeval train stage1.yaml
    """
    from coordeval.training.config_file import config_yaml, load_config

    config = load_config(config_path, changes or [])
    if print_config:
        typer.echo(config_yaml(config), nl=False)
        return
    from coordeval.engines.extras import require_extra

    require_extra("training", "train")
    _quiet_libraries()
    if dry_run:
        _print_check(_checker(config)(config, notify=_say), json_output=json_output)
        return
    _train(config, resume, json_output=json_output)


def _checker(config: TrainConfig) -> Callable[..., dict[str, object]]:
    if config.stage == 2:
        from coordeval.training.stage2.entry import check_stage2

        return check_stage2
    from coordeval.training.stage1 import check_stage1

    return check_stage1


def _trainer(config: TrainConfig) -> Callable[..., Trained]:
    if config.stage == 2:
        from coordeval.training.stage2.entry import train_stage2

        return train_stage2
    from coordeval.training.stage1 import train_stage1

    return train_stage1


def _train(config: TrainConfig, resume: str, *, json_output: bool) -> None:
    from coordeval.engines.interrupts import Interrupted
    from coordeval.jsonl import dump_line
    from coordeval.reports.printable import printable

    try:
        done = _trainer(config)(config, resume=_resume(resume), notify=_say, handle_signals=True)
    except Interrupted as stopped:
        _say("stopped at once, without a checkpoint of the last steps")
        raise typer.Exit(stopped.exit_code) from None
    if done.is_main_process:
        if json_output:
            typer.echo(dump_line(done.to_json()).decode().rstrip())
        else:
            typer.echo(printable(f"{done.checkpoint}: step {done.step} of {done.max_steps}"))
    if done.exit_code:
        raise typer.Exit(done.exit_code)


def _resume(text: str) -> Resume:
    if text == "auto":
        return "auto"
    if text == "never":
        return "never"
    from coordeval.foreign_paths import expand_home

    return expand_home(text)


def _print_check(found: dict[str, object], *, json_output: bool) -> None:
    from coordeval.jsonl import dump_line
    from coordeval.reports.printable import printable

    if json_output:
        typer.echo(dump_line(found).decode().rstrip())
        return
    steps_per_epoch, samples = int(str(found["steps_per_epoch"])), int(str(found["samples"]))
    steps = f"{counted(steps_per_epoch, 'step')} per epoch, {found['steps']} in all"
    for line in (
        f"ready: {counted(samples, 'sample')}, {steps}, on {found['device']}",
        f"{found['parameters_learning']:,} of {found['parameters']:,} parameters learn",
        *(f"first batch{where}: {_losses(values)}" for where, values in _first_batches(found)),
    ):
        typer.echo(printable(line))


def _first_batches(found: dict[str, object]) -> list[tuple[str, dict[str, object]]]:
    """What the first batch gave, by channel where there are several."""
    if "loss" in found:
        return [("", found)]
    return [
        (f" by {key.replace('_', ' ')}", value)
        for key, value in found.items()
        if key.startswith("channel_") and isinstance(value, dict)
    ]


def _losses(values: dict[str, object]) -> str:
    return ", ".join(
        f"{key} {value:z.4g}"
        for key, value in values.items()
        if str(key).startswith("loss") and isinstance(value, float)
    )


def _say(message: str) -> None:
    from coordeval.reports.printable import printable

    typer.echo(printable(message), err=True)


def _quiet_libraries() -> None:
    """Let the libraries warn, but not draw bars of their own."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]


__all__ = ["train"]
