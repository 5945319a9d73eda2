"""`coordeval rollout CKPT`: let a checkpoint decode freely on a dataset, store it, score it."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from coordeval.config import Defaults
    from coordeval.engines.options import RolloutOptions
    from coordeval.engines.runner import Outcome


class EngineName(StrEnum):
    """What makes the text."""

    hf = "hf"
    replay = "replay"


class FieldOrderName(StrEnum):
    """Which field of a record is written first."""

    desc_first = "desc_first"
    geometry_first = "geometry_first"


class DtypeName(StrEnum):
    """Number format of weights and activations."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


class AttentionName(StrEnum):
    """Implementation of attention."""

    auto = "auto"
    sdpa = "sdpa"
    eager = "eager"
    flash_attention_2 = "flash_attention_2"


# What [decode] of coordeval.toml may set, and of which type.
DECODE_TYPES: dict[str, type] = {
    "batch_size": int,
    "device": str,
    "dtype": str,
    "limit": int,
    "max_new_tokens": int,
    "repetition_penalty": float,
    "samples": int,
    "seed": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
}

DataOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Dataset: JSONL or COCO instances file."),
]
ImageRootOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the images.  [default: the dataset's folder]"),
]
OutOption = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Run directory.  [default: runs/<checkpoint>-<settings>]"),
]
PromptOption = Annotated[
    str | None,
    typer.Option(metavar="FILE.toml", help="Prompt file; or open, closed.  [default: open]"),
]
PixelsOption = Annotated[
    str | None,
    typer.Option(metavar="none|MIN:MAX", help="Pixel limits.  [default: the checkpoint's]"),
]
IdsOption = Annotated[
    str | None, typer.Option(metavar="FILE|a,b,c", help="Only these ids (a file: one per line).")
]
ShardOption = Annotated[
    str | None, typer.Option(metavar="i/n", help="Every n-th sample; join with coordeval merge.")
]
MaxNewTokensOption = Annotated[
    int | None,
    typer.Option(help="Token limit.  [default: 1.5 x the longest ground truth, at least 256]"),
]


def rollout(  # noqa: PLR0917 - one parameter per option
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="Checkpoint folder or hub id.")],
    data: DataOption = None,
    image_root: ImageRootOption = None,
    out: OutOption = None,
    engine: Annotated[EngineName, typer.Option(help="What decodes.")] = EngineName.hf,
    prompt: PromptOption = None,
    pixels: PixelsOption = None,
    dialect: Annotated[
        str | None, typer.Option(help="How objects are written.  [default: coordjson]")
    ] = None,
    field_order: Annotated[
        FieldOrderName | None, typer.Option(help="Order of fields that is asked for.")
    ] = None,
    frame: Annotated[
        str | None, typer.Option(help="What a bin means.  [default: coordexp]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at once.  [default: 8]")] = None,
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
    limit: Annotated[int | None, typer.Option(help="Only the first N samples.")] = None,
    ids: IdsOption = None,
    shard: ShardOption = None,
    samples: Annotated[int | None, typer.Option(help="Rollouts per image.  [default: 1]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of sampling.  [default: 0]")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.  [default: 0]")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus mass.  [default: 1]")] = None,
    top_k: Annotated[int | None, typer.Option(help="0: off.  [default: 0]")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="1: off.  [default: 1]")] = None,
    max_new_tokens: MaxNewTokensOption = None,
    max_errors: Annotated[int, typer.Option(min=0, help="Error lines that are accepted.")] = 0,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Redo error lines.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the checkpoint brings.")
    ] = False,
    no_score: Annotated[bool, typer.Option("--no-score", help="Only roll out.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Let a checkpoint write freely for every image, into a run directory; then score it.

    The same command again goes on where it stopped. Exit code 0: every id has a line and errors
    are at most --max-errors; else 3.
    """
    from coordeval.config import load_defaults

    defaults = load_defaults(Path.cwd(), near=Path(checkpoint))
    given = {
        "batch_size": batch_size,
        "device": device,
        "dtype": None if dtype is None else dtype.value,
        "limit": limit,
        "max_new_tokens": max_new_tokens,
        "repetition_penalty": repetition_penalty,
        "samples": samples,
        "seed": seed,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "dialect": dialect,
        "field_order": None if field_order is None else field_order.value,
        "frame": frame,
        "pixels": pixels,
        "prompt": prompt,
        "data": data,
        "image_root": image_root,
    }
    options = resolve_options(
        defaults,
        given,
        checkpoint=checkpoint,
        out=out,
        engine=engine.value,
        attention=attn.value,
        adapter=adapter,
        ids=ids,
        shard=shard,
        retry_errors=retry_errors,
        trust_remote_code=trust_remote_code,
    )
    outcome = roll_out_and_show(options)
    _finish(outcome, max_errors=max_errors, score=not no_score, json_output=json_output)


def resolve_options(defaults: Defaults, given: dict[str, Any], **fixed: Any) -> RolloutOptions:
    """Options from the command line, else from coordeval.toml, else built in.

    Raises ConfigError where there is no data anywhere, and for wrong types in [decode].
    """
    from coordeval.engines.options import RolloutOptions
    from coordeval.errors import ConfigError

    values = {
        "dialect": defaults.dialect,
        "field_order": defaults.field_order,
        "frame": defaults.frame,
        "pixels": defaults.pixels,
        "prompt": None if defaults.prompt is None else str(defaults.prompt),
        "data": defaults.data,
        "image_root": defaults.image_root,
        **_decode_defaults(defaults),
    }
    if given.get("data") is not None:
        values["image_root"] = None  # the root in the file belongs to the data in the file
    values |= {key: value for key, value in given.items() if value is not None}
    if values["data"] is None:
        raise ConfigError(
            "no data: give --data FILE, or write a coordeval.toml in this folder or a parent "
            'with the line: data = "dataset.jsonl"'
        )
    known = {key: value for key, value in values.items() if value is not None}
    runs_dir = Path("runs") if defaults.runs_dir is None else defaults.runs_dir
    return RolloutOptions(runs_dir=runs_dir, **known, **fixed)


def _decode_defaults(defaults: Defaults) -> dict[str, Any]:
    from coordeval.errors import ConfigError

    values = {}
    for key, value in defaults.decode.items():
        wanted = DECODE_TYPES[key]
        accepted = (int, float) if wanted is float else wanted
        if not isinstance(value, accepted) or isinstance(value, bool):
            raise ConfigError(f"{defaults.source}: [decode] {key} must be {wanted.__name__}")
        values[key] = wanted(value)
    return values


def roll_out_and_show(options: RolloutOptions) -> Outcome:
    """Roll out with progress on stderr; a signal saves, says how to go on, and exits 130 or 143."""
    # Spinning threads starve one another where other work shares the cores (5 x slower was seen);
    # it has to be set before torch loads its thread pool.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from coordeval.cli.rollout_progress import ProgressView
    from coordeval.engines.interrupts import Interrupted
    from coordeval.engines.job import rollout_checkpoint

    with ProgressView() as view:
        try:
            return rollout_checkpoint(
                options,
                on_progress=view.show,
                notify=lambda message: view.note(f"warning: {message}"),
                handle_signals=True,
            )
        except Interrupted as stop:
            view.note(f"{stop}: what was finished is saved; the same command goes on from there")
            raise typer.Exit(stop.exit_code) from None


def _finish(outcome: Outcome, *, max_errors: int, score: bool, json_output: bool) -> None:
    from coordeval.reports.printable import printable

    errors = outcome.counts["errors"]
    summary = (
        f"{outcome.path}: {outcome.status}, {outcome.counts['finished']} of "
        f"{outcome.counts['rollouts']} rollouts, {errors} errors"
    )
    for name in ("repeated", "unexpected"):
        if outcome.counts.get(name):
            summary += f", {outcome.counts[name]} {name} lines"
    typer.echo(printable(summary), err=True)
    if errors > max_errors:
        typer.echo(
            f"{errors} errors are more than --max-errors {max_errors}; --retry-errors redoes them",
            err=True,
        )
    if score:
        from coordeval.cli.score import score_and_print

        about = {"run": str(outcome.path), "counts": outcome.counts}
        score_and_print(outcome.path, json_output, about=about)
    elif json_output:
        document = {"run": str(outcome.path), "status": outcome.status, "counts": outcome.counts}
        typer.echo(json.dumps(document, indent=2))
    else:
        typer.echo(printable(str(outcome.path)))
    code = outcome.exit_code(max_errors)
    if code:
        raise typer.Exit(code)


__all__ = ["resolve_options", "roll_out_and_show", "rollout"]
