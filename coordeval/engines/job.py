"""One rollout from options to a run directory: what `coordeval rollout` does, for any caller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.coords import DEFAULT_FRAME, CoordVocabulary, frame_named
from coordeval.data.class_list import read_class_list
from coordeval.data.dataset import image_root_hint, open_dataset
from coordeval.data.foreign_prompts import prefers_closed
from coordeval.data.prompts import Prompt, default_prompt, load_prompt, parse_pixels
from coordeval.data.token_budget import MINIMUM_TOKENS, default_max_new_tokens
from coordeval.decoding.guard import require_followable
from coordeval.engines.budget import needed_tokens
from coordeval.engines.dialect_frame import settle_frame
from coordeval.engines.identity import default_out, run_identity
from coordeval.engines.opening import open_source
from coordeval.engines.runner import run_rollouts
from coordeval.engines.selection import parse_selection
from coordeval.errors import ConfigError, DataError, RunIncomplete
from coordeval.foreign_paths import is_file
from coordeval.parsers.dialects import dialect_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.coords import CoordFrame
    from coordeval.data.dataset import Dataset
    from coordeval.engines.base import Engine
    from coordeval.engines.options import RolloutOptions
    from coordeval.engines.progress import Progress
    from coordeval.engines.runner import Outcome
    from coordeval.engines.source import Source
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Sample


def rollout_checkpoint(
    options: RolloutOptions,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    notify: Callable[[str], None] = lambda _: None,
    handle_signals: bool = False,
) -> Outcome:
    """Roll a checkpoint out on a dataset, or go on with what is already there.

    Everything that can be wrong is checked before weights are read. `notify` hears of warnings.
    Raises the errors of its parts, RunIncomplete where no sample is selected, and `Interrupted`.
    """
    dialect = dialect_named(options.dialect, field_order=options.field_order)
    frame = frame_named(DEFAULT_FRAME if options.frame is None else options.frame)
    pixels = parse_pixels(options.pixels)
    dialect = settle_frame(
        dialect, given=options.frame, pixels=pixels, checkpoint=options.checkpoint
    )
    if options.guard.mode != "off":
        require_followable(dialect)
    selection = parse_selection(ids=options.ids, limit=options.limit, shard=options.shard)
    if options.batch_size < 1:
        raise ConfigError("--batch-size must be at least 1")
    # Refuse nonsense before anything is read.
    limit = MINIMUM_TOKENS if options.max_new_tokens is None else options.max_new_tokens
    options.decode_settings(limit)
    dataset = open_dataset(options.data, image_root=options.image_root, frame=frame)
    prompt = choose_prompt(options.prompt, dialect, dataset)
    class_names = choose_classes(options.classes, dataset)
    options.decode_settings(limit, class_names=class_names)
    samples = list(dataset)
    chosen = selection.apply(samples)
    if not chosen:
        raise RunIncomplete(f"{options.data}: no samples selected, nothing to roll out")
    source = open_source(options)
    if source.tokenizer is not None:
        require_images(chosen, dataset)
    needed = _needed_tokens(source, samples, dialect, frame)
    decode = options.decode_settings(
        token_limit(options.max_new_tokens, needed, notify), class_names=class_names
    )
    engine = source.start(
        prompt=prompt, pixels=pixels, decode=decode, dialect=dialect, notify=notify
    )
    # A default that the engine cannot give was given up with a warning: the run says what held.
    decode = getattr(engine, "decode", decode)
    try:
        identity = run_identity(
            checkpoint=source.checkpoint,
            adapter=source.adapter,
            engine=engine,
            dialect=dialect,
            frame=dialect.frame or frame.name,
            prompt=prompt,
            pixels=pixels,
            decode=decode,
            dataset_path=options.data.resolve(),
            dataset_sha256=dataset.sha256,
            categories=dataset.categories,
            selection=selection,
        )
        return run_rollouts(
            engine,
            chosen,
            out=options.out or default_out(options.runs_dir, identity),
            identity=identity,
            extra=_extra(engine, dataset, needed),
            decode=decode,
            dialect=dialect,
            retry_errors=options.retry_errors,
            on_progress=on_progress,
            handle_signals=handle_signals,
        )
    finally:
        engine.close()


def _needed_tokens(
    source: Source, samples: Sequence[Sample], dialect: Dialect, frame: CoordFrame
) -> int | None:
    """What the ground truth needs, None without a tokenizer; refuses one that lacks coordinates.

    Over the whole dataset, so that all shards and limits of it get the same settings.
    """
    if source.tokenizer is None:
        return None
    if dialect.coordinates in {"token", "quoted_token"}:
        CoordVocabulary.from_tokenizer(source.tokenizer)
    return needed_tokens(samples, tokenizer=source.tokenizer, dialect=dialect, frame=frame)


def _extra(engine: Engine, dataset: Dataset, needed: int | None) -> dict[str, Any]:
    """What run.json also tells, but a resumed run need not share."""
    described = engine.describe()
    return {
        "versions": described["versions"],
        "environment": described["environment"],
        "image_root": str(dataset.image_root.resolve()),
        "needed_tokens": needed,
    }


def choose_prompt(name: Prompt | str | None, dialect: Dialect, dataset: Dataset) -> Prompt:
    """The prompt that `--prompt` names: None or `open`, `closed`, or a TOML file.

    A prompt stays as it is. The class list is the dataset's; ConfigError where one is needed and
    there is none. Other models' own detection prompts name the classes wherever there is a list;
    all others are open where nothing is said.
    """
    if isinstance(name, Prompt):
        return name
    names = None if dataset.categories is None else [item.name for item in dataset.categories]
    if name is None and names and prefers_closed(dialect):
        return default_prompt(dialect=dialect, class_names=names)
    if name in {None, "open"}:
        return default_prompt(dialect=dialect)
    assert name is not None
    if name == "closed":
        if not names:
            raise ConfigError("--prompt closed: the data has no class list (COCO files have one)")
        return default_prompt(dialect=dialect, class_names=names)
    path = Path(name)
    if not path.exists():
        raise ConfigError(f"--prompt {name}: neither open nor closed, and there is no such file")
    return load_prompt(path, class_names=names)


def choose_classes(name: str | None, dataset: Dataset) -> tuple[str, ...] | None:
    """The closed class list that `--classes` names: None, `dataset`, or a file of names."""
    if name is None:
        return None
    if name == "dataset":
        if not dataset.categories:
            raise ConfigError(
                "--classes dataset: the data has no class list (COCO files have one); "
                "give a file with one name per line"
            )
        return tuple(dict.fromkeys(item.name for item in dataset.categories))
    return read_class_list(Path(name))


def token_limit(given: int | None, needed: int | None, notify: Callable[[str], None]) -> int:
    """The limit that was given, with a warning where it is too small; else one from the data."""
    if given is None:
        return MINIMUM_TOKENS if needed is None else default_max_new_tokens(needed)
    if needed is not None and given < needed:
        notify(
            f"max-new-tokens {given} is too small: the longest ground-truth answer needs {needed} "
            f"tokens (default here: {default_max_new_tokens(needed)})"
        )
    return given


def require_images(samples: Sequence[Sample], dataset: Dataset) -> None:
    """Refuse a wrong image root at once; single missing images are error lines of the run."""
    if any(item.image_path is not None and is_file(item.image_path) for item in samples):
        return
    if len(samples) == 1:
        return
    first = samples[0]
    hint = image_root_hint(dataset.image_root, first.image)
    raise DataError(
        f"{dataset.path}: none of its images is there (first: {first.image_path}); "
        + (hint or "set --image-root to the folder that the image paths start from")
    )


__all__ = [
    "choose_classes",
    "choose_prompt",
    "require_images",
    "rollout_checkpoint",
    "token_limit",
]
