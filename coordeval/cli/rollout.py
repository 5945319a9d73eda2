"""`coordeval rollout CKPT`: let a checkpoint decode freely on a dataset, store it, score it."""

from __future__ import annotations

import json
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from coordeval.cli import rollout_options as opt
from coordeval.cli.rollout_asked import Asked
from coordeval.counted import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordeval.config import Defaults
    from coordeval.engines.options import RolloutOptions
    from coordeval.engines.runner import Outcome


def rollout(  # noqa: PLR0917 - one parameter per option
    checkpoint: opt.Checkpoint,
    out: opt.Out = None,
    data: opt.Data = None,
    image_root: opt.ImageRoot = None,
    prompt: opt.PromptName = None,
    pixels: opt.Pixels = None,
    dialect: opt.DialectName = None,
    field_order: opt.FieldOrder = None,
    frame: opt.FrameName = None,
    limit: opt.Limit = None,
    ids: opt.Ids = None,
    shard: opt.Shard = None,
    temperature: opt.Temperature = None,
    top_p: opt.TopP = None,
    top_k: opt.TopK = None,
    repetition_penalty: opt.RepetitionPenalty = None,
    max_new_tokens: opt.MaxNewTokens = None,
    samples: opt.Samples = None,
    sample_temperature: opt.SampleTemperature = None,
    seed: opt.Seed = None,
    constrain: opt.Constrain = None,
    classes: opt.Classes = None,
    geometry: opt.Geometry = None,
    max_objects: opt.MaxObjects = None,
    max_points: opt.MaxPoints = None,
    separators: opt.Separators = None,
    ordered: opt.Ordered = None,
    sorted_objects: opt.SortedObjects = False,
    loop_guard: opt.LoopGuard = None,
    guard_exact: opt.GuardExact = None,
    guard_block: opt.GuardBlock = None,
    guard_near: opt.GuardNear = None,
    guard_near_iou: opt.GuardNearIou = None,
    guard_cycle: opt.GuardCycle = None,
    telemetry: opt.Telemetry = None,
    engine: opt.Engine = None,
    adapter: opt.Adapter = None,
    batch_size: opt.BatchSize = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    attn: opt.Attention = opt.AttentionName.auto,
    tensor_parallel: opt.TensorParallel = 1,
    data_parallel: opt.DataParallel = 1,
    gpu_memory_utilization: opt.GpuMemory = None,
    max_model_len: opt.MaxModelLen = None,
    engine_arg: opt.EngineArg = None,
    server_url: opt.ServerUrl = None,
    server_model: opt.ServerModel = None,
    concurrency: opt.Concurrency = 16,
    timeout: opt.Timeout = 300.0,
    retries: opt.Retries = 4,
    ray_address: opt.RayAddress = None,
    replicas: opt.Replicas = None,
    inner: opt.Inner = None,
    trust_remote_code: opt.TrustRemoteCode = False,
    max_errors: opt.MaxErrors = 0,
    retry_errors: opt.RetryErrors = False,
    no_score: opt.NoScore = False,
    json_output: opt.JsonOutput = False,
) -> None:
    """Let a checkpoint write for every image, into a run directory; then score it.

    The same command again goes on where it stopped. Exit code 0: every id has a line and errors
    are at most --max-errors; else 3.

    Examples: coordeval rollout CKPT --data val.jsonl --image-root images --out runs/x; coordeval
    rollout CKPT --data instances_val2017.json --image-root val2017 --limit 200; coordeval rollout
    CKPT --constrain grammar --loop-guard stop
    """
    from coordeval.config import load_defaults

    defaults = load_defaults(Path.cwd(), near=Path(checkpoint))
    given = Asked(
        data=data,
        image_root=image_root,
        prompt=prompt,
        pixels=pixels,
        dialect=dialect,
        field_order=field_order,
        frame=frame,
        limit=limit,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
        max_new_tokens=max_new_tokens,
        samples=samples,
        sample_temperature=sample_temperature,
        seed=seed,
        constrain=constrain,
        classes=classes,
        geometry=geometry,
        max_objects=max_objects,
        max_points=max_points,
        separators=separators,
        ordered=ordered,
        sorted_objects=sorted_objects,
        loop_guard=loop_guard,
        guard_exact=guard_exact,
        guard_block=guard_block,
        guard_near=guard_near,
        guard_near_iou=guard_near_iou,
        guard_cycle=guard_cycle,
        telemetry=telemetry,
        engine=engine,
        batch_size=batch_size,
        dtype=dtype,
        device=device,
    )
    options = resolve_options(
        defaults,
        given,
        checkpoint=checkpoint,
        out=out,
        attention=attn.value,
        adapter=adapter,
        ids=ids,
        shard=shard,
        tensor_parallel=tensor_parallel,
        data_parallel=data_parallel,
        gpu_memory_utilization=gpu_memory_utilization,
        max_model_len=max_model_len,
        engine_args=_engine_args(engine_arg or []),
        server_url=server_url,
        server_model=server_model,
        concurrency=concurrency,
        timeout_s=timeout,
        retries=retries,
        ray_address=ray_address,
        replicas=replicas,
        inner=plain(inner),
        retry_errors=retry_errors,
        trust_remote_code=trust_remote_code,
    )
    outcome = roll_out_and_show(options)
    _finish(outcome, max_errors=max_errors, score=not no_score, json_output=json_output)


_SHOWN = 5  # lines that are named


def resolve_options(
    defaults: Defaults, given: Mapping[str, object], **fixed: Any
) -> RolloutOptions:
    """Options from the command line, else from coordeval.toml, else built in.

    Raises ConfigError where there is no data anywhere.
    """
    from coordeval.engines.options import RolloutOptions, control_settings
    from coordeval.errors import ConfigError

    values = {
        "dialect": defaults.dialect,
        "field_order": defaults.field_order,
        "frame": defaults.frame,
        "pixels": defaults.pixels,
        "prompt": None if defaults.prompt is None else str(defaults.prompt),
        "data": defaults.data,
        "image_root": defaults.image_root,
        **defaults.decode,
    }
    if given.get("data") is not None:
        values["image_root"] = None  # the root in the file belongs to the data in the file
    values |= {key: plain(value) for key, value in given.items() if value is not None}
    if values["data"] is None:
        raise ConfigError(
            "no data: give --data FILE, or write a coordeval.toml in this folder or a parent "
            'with the line: data = "dataset.jsonl"'
        )
    known = {key: value for key, value in values.items() if value is not None}
    known |= control_settings(known)
    runs_dir = Path("runs") if defaults.runs_dir is None else defaults.runs_dir
    return RolloutOptions(runs_dir=runs_dir, **known, **fixed)


def plain(value: Any) -> Any:
    """An option's value without its enumeration."""
    return value.value if isinstance(value, Enum) else value


def _engine_args(pairs: list[str]) -> dict[str, str]:
    from coordeval.errors import ConfigError

    out: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--engine-arg {pair!r}: write KEY=VALUE")
        out[key.strip().replace("-", "_")] = value
    return out


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
    from coordeval.cli.rollout_errors import error_lines
    from coordeval.reports.printable import printable

    errors = outcome.counts["errors"]
    summary = (
        f"{outcome.path}: {outcome.status}, {outcome.counts['finished']} of "
        f"{counted(outcome.counts['rollouts'], 'rollout')}, {counted(errors, 'error')}"
    )
    for name in ("repeated", "unexpected"):
        if outcome.counts.get(name):
            summary += f", {counted(outcome.counts[name], f'{name} line')}"
    if outcome.cut_bytes:
        summary += (
            f", a torn last line ({counted(outcome.cut_bytes, 'byte')}) was cut off and made again"
        )
    typer.echo(printable(summary), err=True)
    for sentence in [] if outcome.counts.get("repeated") else error_lines(outcome.path, errors):
        typer.echo(sentence, err=True)
    if errors > max_errors:
        typer.echo(
            f"{counted(errors, 'error is', 'errors are')} more than --max-errors {max_errors}; "
            "--retry-errors redoes them",
            err=True,
        )
    if outcome.counts.get("repeated"):
        typer.echo(printable(_repeated(outcome)), err=True)
        score = False  # which of the lines counts is not ours to say
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


def _repeated(outcome: Outcome) -> str:
    """Where ids stand twice, and what to do about it."""
    from coordeval.engines.rewrite import repeated_lines
    from coordeval.runs import ROLLOUTS_NAME

    found = repeated_lines(outcome.path)
    shown = ", ".join(f"line {line} (first on line {first})" for line, first in found[:_SHOWN])
    rest = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"{outcome.path / ROLLOUTS_NAME}: ids stand twice: {shown}{rest}; keep one line for each, "
        "then run the same command again; not scored"
    )


__all__ = ["resolve_options", "roll_out_and_show", "rollout"]
