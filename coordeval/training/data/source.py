"""A dataset file checked and measured for training, before any image is decoded.

Whatever can be known beforehand to be wrong with data, settings or tokenizer is refused here.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from coordeval.coords import CoordVocabulary, frame_named
from coordeval.data.dataset import image_root_hint, open_dataset
from coordeval.data.images import load_sample_image
from coordeval.data.pixels import parse_pixels
from coordeval.data.prompt_choice import choose_prompt
from coordeval.engines.hf_inputs import apply_pixel_limits, render_prompt
from coordeval.engines.selection import parse_selection
from coordeval.errors import ConfigError, DataError
from coordeval.foreign_paths import is_file
from coordeval.parsers.dialects import dialect_named
from coordeval.training.data.keys import naming_key
from coordeval.training.data.labels import AnswerLabeller
from coordeval.training.data.lengths import ImageLengths, answer_lengths
from coordeval.training.data.report import DataReport, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.coords import CoordFrame
    from coordeval.data.dataset import Dataset
    from coordeval.data.prompts import Prompt
    from coordeval.engines.hf_loading import Reader
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Sample
    from coordeval.training.config import DataConfig
    from coordeval.training.data.report import Cleaned

Split = Literal["train", "eval"]
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSource:
    """What is trained on: samples that can be taught, in file order, and how they are written.

    `lengths` are tokens of prompt, image, answer and end token of each sample (with random order,
    the most that any order takes). `images` is a copy of the reader's image processor with the
    pixel limits set; `prompt_ids` hold one image token.
    """

    dataset: Dataset
    dialect: Dialect
    frame: CoordFrame
    prompt: Prompt
    prompt_ids: list[int]
    images: Any
    labeller: AnswerLabeller
    samples: list[Sample]
    lengths: NDArray[np.int64]
    report: DataReport


def open_source(
    config: DataConfig, reader: Reader, split: Split, *, needs_coordinates: bool
) -> SampleSource:
    """Open, check and measure one split; errors as `TrainDataset` says."""
    dialect, frame = _read_as(config)
    vocabulary = _vocabulary(dialect, reader, needs_coordinates=needs_coordinates)
    labeller = AnswerLabeller(reader.tokenizer, vocabulary, reader.end_id)
    dataset = _open(config, split)
    with naming_key("data.prompt"):
        prompt = choose_prompt(config.prompt, dialect, dataset.categories)
    # The image processor may be shared with an evaluator: limits are set on a copy.
    images = copy.deepcopy(reader.image_processor)
    with naming_key("data.pixels"):
        apply_pixel_limits(images, parse_pixels(config.pixels))
    prompt_ids = render_prompt(reader.tokenizer, prompt, reader.image_token_id)
    limit = config.limit if split == "train" else config.eval_limit
    selection = parse_selection(ids=None, limit=limit, shard=None)
    where = f"data.{split} {dataset.path}"
    cleaned = clean(selection.apply(dataset))
    _refuse_empty(cleaned, where)
    _require_images(cleaned.samples, dataset, split, where)
    answers = answer_lengths(
        cleaned.samples, labeller, dialect=dialect, frame=frame, order=config.order
    )
    lengths = _lengths(cleaned.samples, answers, len(prompt_ids), ImageLengths(images))
    samples, kept_lengths, report = _chosen(cleaned, lengths, config, dialect, where)
    if needs_coordinates and not report.coordinates:
        raise DataError(
            f"{where}: no answer holds a coordinate, but the objective has terms on "
            "coordinate tokens; give data with objects, or set those weights to 0"
        )
    _require_readable(samples, config.max_unreadable, where)
    return SampleSource(
        dataset=dataset,
        dialect=dialect,
        frame=frame,
        prompt=prompt,
        prompt_ids=prompt_ids,
        images=images,
        labeller=labeller,
        samples=samples,
        lengths=kept_lengths,
        report=report,
    )


def _read_as(config: DataConfig) -> tuple[Dialect, CoordFrame]:
    with naming_key("data.dialect"):
        dialect = dialect_named(config.dialect, field_order=config.field_order)
    with naming_key("data.frame"):
        return dialect, frame_named(config.frame)


def _writes_tokens(dialect: Dialect) -> bool:
    return dialect.coordinates in {"token", "quoted_token"}


def _vocabulary(
    dialect: Dialect, reader: Reader, *, needs_coordinates: bool
) -> CoordVocabulary | None:
    """Coordinate tokens of a dialect that writes them; None for one that writes integers."""
    if _writes_tokens(dialect):
        return CoordVocabulary.from_tokenizer(reader.tokenizer)
    if needs_coordinates:
        raise ConfigError(
            f"data.dialect {dialect.name} writes coordinates as integers: there are no coordinate "
            "tokens for the objective's coordinate terms; set their weights to 0 (text_ce alone "
            "then teaches the digits), or choose a dialect with coordinate tokens"
        )
    return None


def _open(config: DataConfig, split: Split) -> Dataset:
    path, root = config.train, config.image_root
    if split == "eval":
        if config.eval is None:
            raise ConfigError("data.eval: no evaluation data is given")
        path, root = config.eval, config.eval_image_root or config.image_root
    return open_dataset(path, image_root=root, frame=config.frame)


def _refuse_empty(cleaned: Cleaned, where: str) -> None:
    if not cleaned.samples:
        raise DataError(f"{where}: holds no samples")
    if cleaned.objects and cleaned.degenerate == cleaned.objects:
        raise DataError(
            f"{where}: all {cleaned.objects} objects are degenerate (no area or length); "
            "boxes are x1, y1, x2, y2 in pixels: coordeval data validate says more"
        )


def _require_images(samples: Sequence[Sample], dataset: Dataset, split: Split, where: str) -> None:
    """Refuse a wrong image root at once; single missing images are left out when read."""
    if any(s.image_path is not None and is_file(s.image_path) for s in samples):
        return
    first = samples[0]
    key = "data.image_root" if split == "train" else "data.eval_image_root"
    below = dataset.image_root / "images"
    # The hint speaks of the option of other commands; here the folder has a key.
    found = image_root_hint(dataset.image_root, first.image) is not None
    advice = f"to {below}" if found else "to the folder that the image paths start from"
    raise DataError(
        f"{where}: none of its images is there (first: {first.image_path}); set {key} {advice}"
    )


def _require_readable(samples: Sequence[Sample], most_unreadable: int, where: str) -> None:
    """Refuse data of whose images not one can be read: a training on them would teach nothing.

    Opens images up to the first good one, and no more than would end the training anyway.
    """
    first = ""
    for sample in samples[: most_unreadable + 1]:
        try:
            load_sample_image(sample)
        except DataError as error:
            first = first or str(error)
        else:
            return
    tried = min(len(samples), most_unreadable + 1)
    which = (
        "none of its images" if tried == len(samples) else f"not one of its first {tried} images"
    )
    raise DataError(
        f"{where}: {which} can be read (data.max_unreadable is {most_unreadable}); first {first}"
    )


def _lengths(
    samples: Sequence[Sample], answers: Sequence[int], prompt: int, images: ImageLengths
) -> list[int | None]:
    """Tokens of each sample; None for an image that does not fit the patch grid."""
    out: list[int | None] = []
    for sample, answer in zip(samples, answers, strict=True):
        tokens = images.tokens(sample.width, sample.height)
        out.append(None if tokens is None else prompt - 1 + tokens + answer)
    return out


def _chosen(
    cleaned: Cleaned,
    lengths: Sequence[int | None],
    config: DataConfig,
    dialect: Dialect,
    where: str,
) -> tuple[list[Sample], NDArray[np.int64], DataReport]:
    """The samples that fit, their lengths, and the report."""
    measured = list(zip(cleaned.samples, lengths, strict=True))
    unfit = [sample.id for sample, length in measured if length is None]
    fitting = [(sample, length) for sample, length in measured if length is not None]
    over_long = [(s.id, length) for s, length in fitting if length > config.max_length]
    if over_long and config.over_length == "refuse":
        raise DataError(_too_long(over_long, config.max_length, where))
    kept = [(sample, length) for sample, length in fitting if length <= config.max_length]
    if not kept:
        raise DataError(
            f"{where}: no sample is left: {len(over_long)} are longer than data.max_length "
            f"{config.max_length}, {len(unfit)} do not fit the patch grid"
        )
    samples = [sample for sample, _ in kept]
    kept_lengths = np.array([length for _, length in kept])
    objects = [obj for sample in samples for obj in sample.objects]
    written = objects if _writes_tokens(dialect) else []
    report = DataReport(
        samples_read=len(measured),
        samples_used=len(samples),
        over_long=len(over_long),
        unfit_images=len(unfit),
        objects=len(objects),
        crowd_objects=cleaned.crowd,
        degenerate_objects=cleaned.degenerate,
        emptied_samples=len(cleaned.emptied_ids),
        coordinates=sum(len(obj.values_px) for obj in written),
        boxes=sum(obj.kind == "bbox_2d" for obj in written),
        longest=int(kept_lengths.max()),
        tokens=int(kept_lengths.sum()),
        over_long_ids=tuple(name for name, _ in over_long),
        unfit_image_ids=tuple(unfit),
    )
    return samples, kept_lengths, report


def _too_long(over_long: Sequence[tuple[str, int]], limit: int, where: str) -> str:
    longest = sorted(over_long, key=lambda pair: -pair[1])
    shown = ", ".join(f"{name!r} ({length})" for name, length in longest[:_SHOWN])
    return (
        f"{where}: {len(over_long)} samples are longer than data.max_length {limit} tokens "
        f"(id and length: {shown}); raise data.max_length, limit the images with data.pixels, "
        "or leave such samples out with data.over_length: drop"
    )


__all__ = ["SampleSource", "Split", "open_source"]
