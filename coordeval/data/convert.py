"""Datasets from one form to another: COCO or JSONL in; pixels, bins, tokens or COCO out."""

from __future__ import annotations

import gzip
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from coordeval.atomic import output_file
from coordeval.coords import FRAMES, CoordFrame, Rounding, coord_token, quantise
from coordeval.data.export_coco import coco_document
from coordeval.data.federated_classes import CLASSES, write_all_classes, write_classes
from coordeval.data.objects import write_object
from coordeval.errors import DataError
from coordeval.jsonl import dump_line
from coordeval.records import GEOMETRY_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from coordeval.data.dataset import Dataset
    from coordeval.records import GroundTruthObject, Sample

Target = Literal["pixels", "bins", "tokens", "coco"]
TARGETS: tuple[Target, ...] = ("pixels", "bins", "tokens", "coco")
OBJECT_KEYS = frozenset({"desc", *GEOMETRY_KINDS, "iscrowd", "area", "category_id"})


@dataclass(slots=True, kw_only=True)
class ConversionCounts:
    """What a conversion wrote, and what it had to change on the way.

    `clamped` counts coordinates beyond the grid, `clamped_objects` the objects that held them,
    `widened` boxes that would have collapsed. `fallbacks`: polygons that became boxes, by reason.
    `lines_left_out`: COCO cannot hold lines. `classes_lost`: names of a COCO class list that no
    image mentions, which JSONL has no place for.
    """

    images: int = 0
    objects: int = 0
    clamped: int = 0
    clamped_objects: int = 0
    widened: int = 0
    lines_left_out: int = 0
    classes_lost: int = 0
    fallbacks: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All counts as plain data."""
        return asdict(self)


def convert_dataset(
    dataset: Dataset,
    out: Path,
    *,
    to: Target,
    rounding: Rounding = "nearest",
    frame: CoordFrame = FRAMES["coordexp"],
) -> ConversionCounts:
    """Write a dataset in another form; the output appears whole or not at all.

    `pixels`: floats. `bins` and `tokens`: on the grid of `frame`, which every such record names, so
    that it reads back to the same pixels wherever it goes. Keys of JSONL records and objects that
    the contract does not know are copied as they are. Names that end in `.gz` are compressed.
    Raises DataError for faults in the input and where `out` is the input or cannot be written.
    """
    _refuse_input(dataset.path, out)
    counts = ConversionCounts()
    if dataset.coco is not None:
        counts.fallbacks = dataset.coco.geometry_fallbacks()
    with _atomic_output(out) as handle:
        if to == "coco":
            document, counts.lines_left_out = coco_document(dataset)
            counts.images = len(document["images"])
            counts.objects = len(document["annotations"])
            handle.write(dump_line(document))
        else:
            for record in _records(dataset, to, frame, rounding, counts):
                handle.write(dump_line(record))
    return counts


def _records(
    dataset: Dataset,
    to: Target,
    frame: CoordFrame,
    rounding: Rounding,
    counts: ConversionCounts,
) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for raw, sample in _raw_and_samples(dataset):
        record = {key: raw[key] for key in raw if key not in {"objects", "coord_space", "frame"}}
        if to == "bins":
            record["coord_space"] = "bins"
        if to in {"bins", "tokens"}:
            record["frame"] = frame.name
        record["objects"] = [
            _object(obj, raw_object, sample, to, frame, rounding, counts)
            for obj, raw_object in zip(sample.objects, raw["objects"], strict=True)
        ]
        counts.images += 1
        counts.objects += len(sample.objects)
        seen.update(obj.desc for obj in sample.objects)
        seen.update(item["name"] for item in (record.get("metadata") or {}).get(CLASSES) or ())
        yield record
    if dataset.categories is not None:
        counts.classes_lost = sum(category.name not in seen for category in dataset.categories)


def _raw_and_samples(dataset: Dataset) -> Iterator[tuple[dict[str, Any], Sample]]:
    """Samples with the record to fill: as written in a JSONL, made up for COCO."""
    if dataset.coco is None:
        for _, raw, _, sample in dataset.iter_records():
            yield raw, sample
        return
    classes = {category.id: category for category in dataset.coco.categories}
    listed = write_all_classes(classes.values()) if dataset.coco.is_federated else {}
    for sample in dataset.iter_samples():
        record: dict[str, Any] = {
            "image": sample.image,
            "image_id": sample.image_id,
            "width": sample.width,
            "height": sample.height,
        }
        metadata = sample.metadata | (listed or write_classes(sample, classes))
        listed = {}
        if metadata:
            record["metadata"] = metadata
        yield record | {"objects": [{}] * len(sample.objects)}, sample


def _object(
    obj: GroundTruthObject,
    raw: dict[str, Any],
    sample: Sample,
    to: Target,
    frame: CoordFrame,
    rounding: Rounding,
    counts: ConversionCounts,
) -> dict[str, Any]:
    out = write_object(obj)
    if to in {"bins", "tokens"}:
        quantised = quantise(
            obj.values_px,
            sample.width,
            sample.height,
            frame,
            is_box=obj.kind == "bbox_2d",
            rounding=rounding,
        )
        counts.clamped += quantised.clamped
        counts.clamped_objects += quantised.clamped > 0
        counts.widened += quantised.widened
        bins = quantised.bins
        out[obj.kind] = [coord_token(k) for k in bins] if to == "tokens" else list(bins)
    return out | {key: raw[key] for key in raw if key not in OBJECT_KEYS}


def _refuse_input(source: Path, out: Path) -> None:
    if os.path.realpath(source) == os.path.realpath(out) or (
        out.exists() and source.exists() and out.samefile(source)
    ):
        raise DataError(f"{out}: is the input itself; name another output file")
    if out.is_dir():
        raise DataError(f"{out}: is a folder; name the output file")


@contextmanager
def _atomic_output(out: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only when the block ends well; removed otherwise."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with output_file(out) as place, place.open("wb") as plain:
            if out.name.endswith(".gz"):
                # No name and no time in the header: the same input gives the same bytes.
                with gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield plain
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from None


__all__ = ["TARGETS", "ConversionCounts", "Target", "convert_dataset"]
