"""`coordeval compare A B [C ...]`: differences with evidence, verdicts, and the reasons."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordeval.cli import rollout_options as opt
from coordeval.cli.naming import (
    SemanticOption,
    SemanticThresholdOption,
    SynonymsOption,
    name_matching,
)
from coordeval.cli.rollout import resolve_options, roll_out_and_show
from coordeval.cli.score import (
    DialectOption,
    FieldOrderOption,
    FrameOption,
    ScoreSource,
    open_with_reading,
)
from coordeval.counted import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.runs import Run
    from coordeval.stats.comparison import CompareOptions, Comparison


class FailOn(StrEnum):
    """What makes the command end with exit code 1."""

    worse = "worse"


def compare(  # noqa: PLR0917 - one parameter per option
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C ...]",
            help="Run directories, files of rollout lines, or checkpoints; A is the reference.",
        ),
    ],
    fail_on: Annotated[
        FailOn | None,
        typer.Option(help="Exit code 1 where a metric of the table is worse than in A."),
    ] = None,
    require_same: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING[,...]",
            help="Exit code 4 where the runs differ in it: decode, prompt, engine, dataset, "
            "checkpoint, dialect, frame, pixels, adapter, selection, ...",
        ),
    ] = None,
    allow_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-mismatch", help="Compare other ground truths or protocols too; marked."
        ),
    ] = False,
    every_metric: Annotated[
        bool, typer.Option("--all", help="Show every metric that differs.")
    ] = False,
    draws: Annotated[int, typer.Option(help="Draws of the paired bootstrap.")] = 2000,
    coco_draws: Annotated[int, typer.Option(help="How many of them for AP and AR.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    protocol: Annotated[
        str | None,
        typer.Option(help="Evaluation protocol.  [default: the stored scores', or coordeval]"),
    ] = None,
    scores: Annotated[
        ScoreSource, typer.Option(help="Confidences; the same source for all runs.")
    ] = ScoreSource.auto,
    dialect: DialectOption = None,
    field_order: FieldOrderOption = None,
    frame: FrameOption = None,
    synonyms: SynonymsOption = None,
    semantic: SemanticOption = None,
    semantic_threshold: SemanticThresholdOption = None,
    data: opt.Data = None,
    image_root: opt.ImageRoot = None,
    prompt: opt.PromptName = None,
    limit: Annotated[
        int | None, typer.Option(help="Checkpoints: only the first N samples.")
    ] = None,
    max_new_tokens: opt.MaxNewTokens = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Checkpoints: images at once.  [default: 8]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda", help="Checkpoints: where to run.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Say what changed from A to B, whether it is more than chance, and why.

    Checkpoints are rolled out first with equal settings, into runs/; what is there is not made
    again. Images are paired by sample id. Exit code 0 whatever is found, unless --fail-on worse;
    4 where the runs do not compare.

    Examples: coordeval compare runs/a runs/b; coordeval compare ckpt-300 ckpt-2400 --data val.jsonl
    --fail-on worse
    """
    from coordeval.errors import EXIT_PROBLEMS, ConfigError
    from coordeval.stats.comparison import CompareOptions

    if json_output and markdown:
        raise ConfigError("--json and --markdown exclude each other")
    if len(runs) < 2:
        raise ConfigError("compare needs at least two runs: coordeval compare A B")
    options = CompareOptions(
        draws=draws,
        coco_draws=min(coco_draws, draws),
        seed=seed,
        protocol=protocol,
        names=name_matching(Path(runs[0]), synonyms, semantic, semantic_threshold),
        score_source=scores.value,
        allow_mismatch=allow_mismatch,
        require_same=_names(require_same or []),
    )
    given = {
        "data": data,
        "image_root": image_root,
        "prompt": prompt,
        "limit": limit,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "device": device,
        "dialect": dialect,
        "field_order": field_order,
        "frame": frame,
    }
    reading = {"dialect": dialect, "field_order": field_order, "frame": frame}
    opened = open_all(runs, given, reading)
    comparison = _compare(opened, options)
    _print(comparison, json_output=json_output, markdown=markdown, every_metric=every_metric)
    if fail_on is FailOn.worse and any(versus.is_worse for versus in comparison.versus):
        raise typer.Exit(EXIT_PROBLEMS)


def _names(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def open_all(arguments: Sequence[str], given: dict[str, Any], reading: dict[str, Any]) -> list[Run]:
    """Open every argument; checkpoints are rolled out first, with the settings of what is there.

    Raises DataError for an argument that is nothing known.
    """
    kinds = [_kind(argument) for argument in arguments]
    opened: dict[int, Run] = {
        number: open_with_reading(Path(arguments[number]), **reading)
        for number, kind in enumerate(kinds)
        if kind == "run"
    }
    checkpoints = [number for number, kind in enumerate(kinds) if kind == "checkpoint"]
    for number in checkpoints:
        first = opened[min(opened)] if opened else None
        path = _roll_out(arguments[number], given, first, near=arguments[checkpoints[0]])
        opened[number] = open_with_reading(path, **reading)
    return [opened[number] for number in range(len(arguments))]


def _kind(argument: str) -> str:
    from coordeval.engines.checkpoint import HUB_ID_RE
    from coordeval.errors import DataError
    from coordeval.runs import META_NAME

    path = Path(argument)
    if path.is_file() or (path / META_NAME).is_file():
        return "run"
    if (path / "config.json").is_file():
        return "checkpoint"
    if path.is_dir():
        raise DataError(
            f"{argument}: neither a run (no {META_NAME}) nor a checkpoint (no config.json)"
        )
    if HUB_ID_RE.fullmatch(argument) and not Path(Path(argument).parts[0]).exists():
        return "checkpoint"
    raise DataError(f"{argument}: no such run directory, rollout file or checkpoint folder")


def _roll_out(checkpoint: str, given: dict[str, Any], like: Run | None, *, near: str) -> Path:
    """The run directory of a checkpoint; its settings are those of a run that is there already.

    What such a run does not say comes from one coordeval.toml, that of the first checkpoint.
    """
    from coordeval.config import load_defaults
    from coordeval.errors import RunIncomplete

    defaults = load_defaults(Path.cwd(), near=Path(near))
    values = settings_of(like) if like is not None else {}
    values |= {key: value for key, value in given.items() if value is not None}
    options = resolve_options(
        defaults,
        values,
        checkpoint=checkpoint,
        out=None,
        attention="auto",
        adapter=None,
        ids=None,
        shard=None,
        retry_errors=False,
        trust_remote_code=False,
    )
    from coordeval.reports.printable import printable

    outcome = roll_out_and_show(options)
    errors = outcome.counts["errors"]
    typer.echo(printable(f"{outcome.path}: {outcome.status}, {counted(errors, 'error')}"), err=True)
    if outcome.status != "complete":
        raise RunIncomplete(f"{outcome.path}: the rollout is not complete; run it again to go on")
    return outcome.path


def settings_of(run: Run) -> dict[str, Any]:
    """What a run was made with, as options of a rollout; what cannot be given again is left out."""
    from coordeval.decoding.settings import ConstraintSettings, GuardSettings

    meta = run.meta
    out: dict[str, Any] = {}
    decode = meta.get("decode")
    if isinstance(decode, dict):
        names = (
            "max_new_tokens",
            "temperature",
            "top_p",
            "top_k",
            "repetition_penalty",
            "seed",
            "samples",
            "sample_temperature",
            "telemetry",
        )
        out |= {name: decode[name] for name in names if decode.get(name) is not None}
        if decode.get("constraint"):
            out["constraint"] = ConstraintSettings.from_json(decode["constraint"])
        if decode.get("guard"):
            out["guard"] = GuardSettings.from_json(decode["guard"])
    dialect = meta.get("dialect")
    if isinstance(dialect, dict):
        out["dialect"], out["field_order"] = dialect.get("name"), dialect.get("field_order")
    if meta.get("frame"):
        out["frame"] = meta["frame"]
    if run.dataset_path is not None and run.dataset_path.is_file():
        out["data"], out["image_root"] = run.dataset_path, run.image_root
    prompt = meta.get("prompt")
    if isinstance(prompt, dict) and _is_closed(prompt):
        out["prompt"] = "closed"
    selection = meta.get("selection")
    if isinstance(selection, dict) and selection.get("limit") is not None:
        out["limit"] = selection["limit"]
    engine = meta.get("engine")
    if isinstance(engine, dict):
        if engine.get("dtype") is not None:
            out["dtype"] = engine["dtype"]
        if engine.get("name") in {"hf", "vllm"}:
            out["engine"] = engine["name"]
    return {key: value for key, value in out.items() if value is not None}


def _is_closed(prompt: dict[str, Any]) -> bool:
    """True for a built-in prompt that names the dataset's classes."""
    return prompt.get("version") != "user" and str(prompt.get("name")).endswith("-closed")


def _compare(runs: Sequence[Run], options: CompareOptions) -> Comparison:
    from coordeval.reports.console import progress_console
    from coordeval.stats.comparison import compare_runs

    console = progress_console()
    if not console.is_terminal:
        return compare_runs(runs, options)
    with console.status("reading") as status:
        return compare_runs(runs, options, progress=status.update)


def _print(
    comparison: Comparison, *, json_output: bool, markdown: bool, every_metric: bool
) -> None:
    if json_output:
        from coordeval.jsonl import dump_line

        typer.echo(dump_line(comparison.to_json()).decode().rstrip())
        return
    if markdown:
        from coordeval.reports.comparison_markdown import comparison_markdown

        typer.echo(comparison_markdown(comparison, every_metric=every_metric).rstrip())
        return
    from coordeval.reports.comparison import comparison_report
    from coordeval.reports.console import result_console

    console = result_console()
    console.print(comparison_report(comparison, every_metric=every_metric, width=console.width))


__all__ = ["compare", "open_all", "settings_of"]
