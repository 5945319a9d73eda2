"""A rollout against its ground truth: what was found, repeated, invented and missed."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.coords import quantise
from coordeval.data.geometry import is_degenerate
from coordeval.data.ordering import order_objects
from coordeval.training.stage2.duplicates import suppressed_repeats
from coordeval.training.stage2.matching import UNMATCHED, match_objects
from coordeval.training.stage2.overlap import BinObject

if TYPE_CHECKING:
    from coordeval.records import FoundRecord, GroundTruthObject, Sample
    from coordeval.training.stage2.matching import Matching
    from coordeval.training.stage2.reading import ReadRollout
    from coordeval.training.stage2.target_context import TargetContext


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueObjects:
    """A sample's objects in bins: those that are written, in writing order, and crowd regions.

    `degenerate` counts objects without area or length, which no answer can hold.
    """

    written: tuple[BinObject, ...]
    crowd: tuple[BinObject, ...]
    degenerate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A valid object of a rollout: its record, and the true object that it found, None for none.

    `labels` are the true bins at its own slots, None where they cannot be told slot by slot.
    `true_desc` and `same_kind` say whether its description and its geometry's kind are the true
    ones; False where it found none.
    """

    record: FoundRecord
    true_index: int | None
    labels: tuple[int, ...] | None
    true_desc: bool
    same_kind: bool
    suppressed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All valid objects of a rollout in the order of its text, and the true ones it missed."""

    found: tuple[Found, ...]
    missed: tuple[int, ...]
    on_crowd: int
    gating_rejections: int


def true_objects(sample: Sample, context: TargetContext) -> TrueObjects:
    """The ground truth of a sample as training writes it."""

    def in_bins(obj: GroundTruthObject) -> BinObject:
        is_box = obj.kind == "bbox_2d"
        quantised = quantise(
            obj.values_px, sample.width, sample.height, context.frame, is_box=is_box
        )
        return BinObject(obj.desc, obj.kind, quantised.bins)

    ordinary = [obj for obj in sample.objects if not obj.iscrowd]
    kept = [obj for obj in ordinary if not is_degenerate(obj)]
    ordered = order_objects(kept, context.order, seed=context.seed, key=sample.id)
    return TrueObjects(
        written=tuple(in_bins(obj) for obj in ordered),
        crowd=tuple(in_bins(obj) for obj in sample.objects if obj.iscrowd),
        degenerate=len(ordinary) - len(kept),
    )


def judge(reading: ReadRollout, truth: TrueObjects, context: TargetContext) -> Judged:
    """Match the valid objects of a readable rollout, and tell repeats among them."""
    records = [record for record in reading.whole if record.reason is None]
    written = [_in_bins(record) for record in records]
    config = context.config
    matching = match_objects(written, truth.written, config.matching, crowd=truth.crowd)
    suppressed = suppressed_repeats(
        written,
        matching,
        duplicate_iou=config.duplicate_iou,
        mask_size=config.matching.mask_size,
    )
    found = tuple(
        _found(record, obj, column, truth, suppressed=repeat)
        for record, obj, column, repeat in zip(
            records, written, matching.partner, suppressed, strict=True
        )
    )
    return Judged(
        found=found,
        missed=_missed(matching, truth),
        on_crowd=sum(
            on and not repeat for on, repeat in zip(matching.on_crowd, suppressed, strict=True)
        ),
        gating_rejections=matching.gating_rejections,
    )


def _missed(matching: Matching, truth: TrueObjects) -> tuple[int, ...]:
    taken = set(matching.partner)
    return tuple(index for index in range(len(truth.written)) if index not in taken)


def _in_bins(record: FoundRecord) -> BinObject:
    assert record.desc is not None
    assert record.kind is not None
    assert record.values is not None
    return BinObject(record.desc, record.kind, record.values)


def _found(
    record: FoundRecord, obj: BinObject, column: int, truth: TrueObjects, *, suppressed: bool
) -> Found:
    if column == UNMATCHED:
        return Found(
            record=record,
            true_index=None,
            labels=None,
            true_desc=False,
            same_kind=False,
            suppressed=suppressed,
        )
    true = truth.written[column]
    return Found(
        record=record,
        true_index=column,
        labels=slot_labels(obj, true),
        # Tokenizers write descriptions in this form, whichever form the data have.
        true_desc=unicodedata.normalize("NFC", obj.desc) == unicodedata.normalize("NFC", true.desc),
        same_kind=obj.kind == true.kind,
        suppressed=False,
    )


def slot_labels(written: BinObject, true: BinObject) -> tuple[int, ...] | None:
    """The true bins at the slots of a written object; None where there is no telling.

    Boxes have one order. Polygons and lines of the same number of points are laid on each other
    point by point as they differ least (sum of L1 distances): from any corner and either way round
    for polygons, from either end for lines; ties go to the true order. Other kinds, or another
    number of points, cannot be told slot by slot.
    """
    if written.kind != true.kind or len(written.bins) != len(true.bins):
        return None
    if true.kind == "bbox_2d":
        return true.bins
    points_N2 = np.array(true.bins).reshape(-1, 2)
    starts = range(len(points_N2)) if true.kind == "poly" else (0,)
    orders = [np.roll(points_N2, -start, axis=0) for start in starts]
    orders += [order_N2[::-1] for order_N2 in orders]
    own_N2 = np.array(written.bins).reshape(-1, 2)
    best_N2 = min(orders, key=lambda order_N2: int(np.abs(order_N2 - own_N2).sum()))
    return tuple(best_N2.ravel().tolist())


__all__ = ["Found", "Judged", "TrueObjects", "judge", "slot_labels", "true_objects"]
