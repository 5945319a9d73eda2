"""One rollout from options to a run directory: what `coordeval rollout` does, for any caller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.coords import DEFAULT_FRAME, CoordVocabulary, frame_named
from coordeval.data.class_list import choose_classes
from coordeval.data.dataset import image_root_hint, open_dataset
from coordeval.data.pixels import parse_pixels
from coordeval.data.prompt_choice import choose_prompt
from coordeval.data.token_budget import MINIMUM_TOKENS, token_limit
from coordeval.decoding.guard import require_followable
from coordeval.decoding.language import require_constrainable
from coordeval.engines.budget import needed_tokens
from coordeval.engines.dialect_frame import processor_grid, settle_frame
from coordeval.engines.identity import default_out, run_identity
from coordeval.engines.opening import open_source
from coordeval.engines.runner import run_rollouts
from coordeval.engines.selection import parse_selection
from coordeval.errors import CheckpointError, ConfigError, DataError, RunIncomplete
from coordeval.foreign_paths import is_file
from coordeval.parsers.dialects import dialect_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.coords import CoordFrame
    from coordeval.data.dataset import Dataset
    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.options import RolloutOptions
    from coordeval.engines.progress import Progress
    from coordeval.engines.runner import Outcome
    from coordeval.engines.selection import Selection
    from coordeval.engines.source import Source
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A rollout with every setting checked: what is asked, of what, and where the model lies."""

    dataset: Dataset
    chosen: Sequence[Sample]
    selection: Selection
    dialect: Dialect
    frame: CoordFrame
    prompt: Prompt
    pixels: PixelLimits | None
    source: Source
    needed: int | None
    decode: DecodeSettings


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
    job = _prepare(options, notify)
    engine = job.source.start(
        prompt=job.prompt,
        pixels=job.pixels,
        decode=job.decode,
        dialect=job.dialect,
        notify=notify,
    )
    # A default that the engine cannot give was given up with a warning: the run says what held.
    decode = getattr(engine, "decode", job.decode)
    try:
        identity = _identity(job, engine, decode)
        return run_rollouts(
            engine,
            job.chosen,
            out=options.out or default_out(options.runs_dir, identity),
            identity=identity,
            extra=_extra(engine, job.dataset, job.needed),
            decode=decode,
            dialect=job.dialect,
            retry_errors=options.retry_errors,
            on_progress=on_progress,
            handle_signals=handle_signals,
        )
    finally:
        engine.close()


def _prepare(options: RolloutOptions, notify: Callable[[str], None]) -> _Job:
    """Settle and check all settings, cheap ones first; no weights are read."""
    dialect = dialect_named(options.dialect, field_order=options.field_order)
    frame = frame_named(DEFAULT_FRAME if options.frame is None else options.frame)
    pixels = parse_pixels(options.pixels)
    if options.guard.mode != "off":
        require_followable(dialect)
    require_constrainable(dialect, options.constraint)
    selection = parse_selection(ids=options.ids, limit=options.limit, shard=options.shard)
    if options.batch_size < 1:
        raise ConfigError("--batch-size must be at least 1")
    # Refuse nonsense before anything is read.
    limit = MINIMUM_TOKENS if options.max_new_tokens is None else options.max_new_tokens
    options.decode_settings(limit)
    dataset = open_dataset(options.data, image_root=options.image_root, frame=frame)
    prompt = choose_prompt(options.prompt, dialect, dataset.categories)
    class_names = choose_classes(options.classes, dataset.categories)
    options.decode_settings(limit, class_names=class_names)
    samples = list(dataset)
    chosen = selection.apply(samples)
    if not chosen:
        raise RunIncomplete(f"{options.data}: no samples selected, nothing to roll out")
    source = open_source(options)
    if source.tokenizer is not None:
        require_images(chosen, dataset)
    # Known only now: a checkpoint of the hub lies in the cache.
    grid = processor_grid(Path(source.checkpoint["path"]))
    dialect = settle_frame(dialect, given=options.frame, pixels=pixels, processor=grid)
    needed = _needed_tokens(source, samples, dialect, frame)
    limit = token_limit(options.max_new_tokens, needed, notify)
    return _Job(
        dataset=dataset,
        chosen=chosen,
        selection=selection,
        dialect=dialect,
        frame=frame,
        prompt=prompt,
        pixels=pixels,
        source=source,
        needed=needed,
        decode=options.decode_settings(limit, class_names=class_names),
    )


def _identity(job: _Job, engine: Engine, decode: DecodeSettings) -> dict[str, Any]:
    """What a resumed run must share, with the decode settings that hold."""
    return run_identity(
        checkpoint=job.source.checkpoint,
        adapter=job.source.adapter,
        engine=engine,
        dialect=job.dialect,
        frame=job.dialect.frame or job.frame.name,
        prompt=job.prompt,
        pixels=job.pixels,
        decode=decode,
        dataset_path=job.dataset.path.resolve(),
        dataset_sha256=job.dataset.sha256,
        categories=job.dataset.categories,
        selection=job.selection,
    )


def _needed_tokens(
    source: Source, samples: Sequence[Sample], dialect: Dialect, frame: CoordFrame
) -> int | None:
    """What the ground truth needs, None without a tokenizer; refuses one that lacks coordinates.

    Over the whole dataset, so that all shards and limits of it get the same settings.
    """
    if source.tokenizer is None:
        return None
    if dialect.coordinates in {"token", "quoted_token"}:
        try:
            CoordVocabulary.from_tokenizer(source.tokenizer)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; a checkpoint as its makers published it answers in a dialect of its "
                "own: name that with --dialect (qwen3vl, qwen25vl, ...)"
            ) from None
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


__all__ = ["require_images", "rollout_checkpoint"]
