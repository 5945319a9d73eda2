"""What is rolled out while training, and how: read and checked before the first step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.coords import DEFAULT_FRAME, CoordVocabulary, frame_named
from coordeval.data.class_list import choose_classes
from coordeval.data.dataset import open_dataset
from coordeval.data.pixels import parse_pixels
from coordeval.data.prompt_choice import choose_prompt
from coordeval.data.token_budget import MINIMUM_TOKENS, token_limit
from coordeval.decoding.guard import require_followable
from coordeval.engines.budget import needed_tokens
from coordeval.engines.dialect_frame import checked_grid, settle_frame
from coordeval.engines.job import require_images
from coordeval.engines.options import RolloutOptions, control_settings
from coordeval.engines.selection import Selection, parse_selection
from coordeval.errors import ConfigError
from coordeval.jsonl import dump_line
from coordeval.parsers.dialects import DEFAULT_DIALECT, dialect_named
from coordeval.training.rollout_eval.decode_options import (
    DECODE_OPTIONS,
    ENGINE_OPTIONS,
    checked_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordeval.coords import CoordFrame
    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.dialect_frame import Grid
    from coordeval.engines.hf_loading import Reader
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Category, Sample

_LIVE = (
    "the training itself decodes (engine hf), where and as it is; choose engine: process or vllm "
    "to set this"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalData:
    """What the evaluator reads and asks; the same names and meanings as `coordeval rollout`.

    `data` is a dataset file, or samples with an `image_path` each. `prompt` is what `--prompt`
    takes, or a `Prompt`. `decode` holds options of `coordeval rollout` by their names.
    """

    data: Path | str | Sequence[Sample]
    image_root: Path | str | None = None
    limit: int | None = None
    prompt: Prompt | str | None = None
    pixels: str | None = None
    dialect: str = DEFAULT_DIALECT
    field_order: Any = None
    frame: str | None = None
    batch_size: int = 8
    decode: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path | None:
        """The dataset file; None for samples in memory."""
        return Path(self.data) if isinstance(self.data, str | Path) else None

    def options(
        self, runs_dir: Path, *, checkpoint: str = "", engine: str = "hf"
    ) -> RolloutOptions:
        """The same as options of a rollout; ConfigError for what they do not know."""
        values = _checked(self.decode, live=engine == "hf")
        engine = values.pop("engine", engine)
        values |= control_settings(values)
        return RolloutOptions(
            checkpoint=checkpoint,
            engine=engine,
            data=Path() if self.path is None else self.path,
            runs_dir=runs_dir,
            image_root=None if self.image_root is None else Path(self.image_root),
            limit=self.limit,
            prompt=self.prompt,
            pixels=self.pixels,
            dialect=self.dialect,
            field_order=self.field_order,
            frame=self.frame,
            batch_size=self.batch_size,
            **values,
        )


def _checked(decode: Mapping[str, Any], *, live: bool) -> dict[str, Any]:
    known = DECODE_OPTIONS if live else DECODE_OPTIONS | ENGINE_OPTIONS
    refused = dict.fromkeys(ENGINE_OPTIONS, _LIVE) if live else {}
    return checked_options(decode, known, where="rollout_eval.decode", refused=refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalPlan:
    """Everything of an evaluation but the model; the same for all evaluations of a training."""

    samples: tuple[Sample, ...]
    dataset_path: Path | None
    dataset_sha256: str
    image_root: Path | None
    categories: tuple[Category, ...] | None
    selection: Selection
    dialect: Dialect
    frame: CoordFrame
    prompt: Prompt
    pixels: PixelLimits | None
    decode: DecodeSettings
    needed_tokens: int
    batch_size: int


def build_plan(
    data: EvalData, reader: Reader, options: RolloutOptions, notify: Callable[[str], None]
) -> EvalPlan:
    """Read the data and settle every setting; `notify` hears of warnings.

    Raises the errors of `coordeval rollout`: ConfigError, DataError, CheckpointError for a
    tokenizer without coordinate tokens. No samples at all are a ConfigError.
    """
    if data.batch_size < 1:
        raise ConfigError("rollout_eval.batch_size must be at least 1")
    dialect = dialect_named(options.dialect, field_order=options.field_order)
    frame = frame_named(DEFAULT_FRAME if options.frame is None else options.frame)
    pixels = parse_pixels(options.pixels)
    dialect = settle_frame(dialect, given=options.frame, pixels=pixels, processor=_grid(reader))
    if options.guard.mode != "off":
        require_followable(dialect)
    given = options.max_new_tokens
    options.decode_settings(MINIMUM_TOKENS if given is None else given)
    selection = parse_selection(ids=None, limit=data.limit, shard=None)
    if dialect.coordinates in {"token", "quoted_token"}:
        CoordVocabulary.from_tokenizer(reader.tokenizer)
    dataset = None
    if data.path is not None:
        dataset = open_dataset(data.path, image_root=options.image_root, frame=frame)
    samples: list[Sample] = list(data.data if dataset is None else dataset)  # type: ignore[arg-type]
    chosen = selection.apply(samples)
    if not chosen:
        raise ConfigError(f"rollout_eval: {data.path or 'the data'} holds no samples")
    if dataset is None:
        _refuse_names(data.prompt, options.classes)
    else:
        require_images(chosen, dataset)
    categories = None if dataset is None else dataset.categories
    class_names = choose_classes(options.classes, categories)
    needed = needed_tokens(samples, tokenizer=reader.tokenizer, dialect=dialect, frame=frame)
    decode = options.decode_settings(token_limit(given, needed, notify), class_names=class_names)
    return EvalPlan(
        samples=tuple(chosen),
        dataset_path=None if dataset is None else dataset.path.resolve(),
        dataset_sha256=_samples_sha256(samples) if dataset is None else dataset.sha256,
        image_root=None if dataset is None else dataset.image_root.resolve(),
        categories=categories,
        selection=selection,
        dialect=dialect,
        frame=frame,
        prompt=choose_prompt(data.prompt, dialect, categories),
        pixels=pixels,
        decode=decode,
        needed_tokens=needed,
        batch_size=data.batch_size,
    )


def _grid(reader: Reader) -> Grid | None:
    """The grid of the training's own image processor; None where it tells none."""
    own = reader.image_processor
    size = getattr(own, "size", None)
    return checked_grid(
        patch_size=getattr(own, "patch_size", None),
        merge_size=getattr(own, "merge_size", None),
        min_pixels=getattr(size, "shortest_edge", None),
        max_pixels=getattr(size, "longest_edge", None),
    )


def _refuse_names(prompt: Prompt | str | None, classes: str | None) -> None:
    """Samples in memory have no class list, and no folder to look for a prompt in."""
    if classes == "dataset":
        raise ConfigError("rollout_eval.decode.classes: samples in memory have no class list")
    if isinstance(prompt, str) and prompt != "open":
        raise ConfigError("rollout_eval: samples in memory take no prompt by name; give a Prompt")


def _samples_sha256(samples: Sequence[Sample]) -> str:
    """Hash of what is asked about samples in memory: ids, images, sizes and ground truth."""
    digest = hashlib.sha256()
    for sample in samples:
        objects = [tuple(item) for item in sample.objects]
        digest.update(dump_line([sample.id, sample.image, sample.width, sample.height, objects]))
    return digest.hexdigest()


__all__ = ["EvalData", "EvalPlan", "build_plan"]
