"""COCO AP of resampled data sets, from match tables, without matching again.

A draw gives every image a whole weight: how often it stands in the resampled data set. The result
equals pycocotools' on a data set in which each image stands that often, copies side by side.

Precision matters only where a right detection stands (it falls everywhere else), so a draw works
on right detections alone ("hits"). How many detections stand before a hit is a difference of
running sums over *stretches*: detections of one class, score and image, which repeat as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.stats.coco_matching import THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from coordeval.stats.coco_matches import CocoMatches

RECALL_POINTS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)
PART_HITS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionTable:
    """What a draw of AP needs of one area range and some `thresholds`, laid out flat once.

    A segment is one (threshold, class); a group is the hits of one stretch in one segment.
    `group_hits` and `group_counted` say how many hits and counted detections the stretch has
    there, `hit_place` how many counted ones it has up to each hit. `base` (stretches) counts
    detections whose own size is in the range; `fix_*` are the few detections whose being counted
    depends on the threshold. `*_base` and `*_fix` are places in their running sums.
    """

    thresholds: range
    num_classes: int
    stretch_image: NDArray[np.int32]
    base: NDArray[np.int64]
    group_image: NDArray[np.int32]
    group_base: NDArray[np.int64]
    group_fix: NDArray[np.int64]
    group_segment: NDArray[np.int64]
    group_hits: NDArray[np.int64]
    group_counted: NDArray[np.int64]
    group_first_hit: NDArray[np.int64]
    hit_place: NDArray[np.int64]
    segment_first_group: NDArray[np.int64]
    segment_base: NDArray[np.int64]
    segment_fix: NDArray[np.int64]
    fix_image: NDArray[np.int32]
    fix_sign: NDArray[np.int64]
    some_hits_share_a_stretch: bool


def precision_tables(matches: CocoMatches, area: int) -> Iterator[PrecisionTable]:
    """Lay out one area range of a match table, as many thresholds at a time as have few hits."""
    first, held = 0, 0
    for threshold in range(len(THRESHOLDS)):
        held += len(matches.right.places(area * len(THRESHOLDS) + threshold))
        if held > PART_HITS and threshold > first:
            yield _precision_table(matches, area, range(first, threshold))
            first, held = threshold, len(matches.right.places(area * len(THRESHOLDS) + threshold))
    yield _precision_table(matches, area, range(first, len(THRESHOLDS)))


def _precision_table(matches: CocoMatches, area: int, thresholds: range) -> PrecisionTable:
    num_classes, num = matches.num_classes, len(thresholds)
    stretch = _stretches(matches)
    edges = np.flatnonzero(np.concatenate([[True], stretch[1:] != stretch[:-1], [True]]))
    edges = edges if len(stretch) else np.zeros(1, dtype=np.int64)
    num_stretches = len(edges) - 1
    first_of_class = np.searchsorted(matches.class_code, np.arange(num_classes))
    class_stretch = np.append(stretch, num_stretches)[first_of_class]
    blocks = [_block(matches, stretch, edges, area, threshold) for threshold in thresholds]
    step = num_stretches + 1
    number = np.repeat(np.arange(num), [len(block.stretch) for block in blocks])
    group_stretch = np.concatenate([block.stretch for block in blocks])
    hits = np.concatenate([block.hits for block in blocks])
    fix_key = np.concatenate([b * step + stretch[block.fixes] for b, block in enumerate(blocks)])
    group_segment = number * num_classes + matches.class_code[edges[group_stretch]]
    segment_block = np.repeat(np.arange(num), num_classes)
    segment_stretch = np.tile(class_stretch, num)
    return PrecisionTable(
        thresholds=thresholds,
        num_classes=num_classes,
        stretch_image=matches.image[edges[:-1]],
        base=np.bincount(stretch[matches.in_range[area]], minlength=num_stretches),
        group_image=matches.image[edges[group_stretch]],
        group_base=group_stretch,
        group_fix=np.searchsorted(fix_key, number * step + group_stretch),
        group_segment=group_segment,
        group_hits=hits,
        group_counted=np.concatenate([block.counted for block in blocks]),
        group_first_hit=np.cumsum(hits) - hits,
        hit_place=np.concatenate([block.place for block in blocks]),
        segment_first_group=np.searchsorted(group_segment, np.arange(num * num_classes + 1)),
        segment_base=segment_stretch,
        segment_fix=np.searchsorted(fix_key, segment_block * step + segment_stretch),
        fix_image=matches.image[np.concatenate([block.fixes for block in blocks])],
        fix_sign=np.concatenate([block.signs for block in blocks]),
        some_hits_share_a_stretch=bool((hits > 1).any()),
    )


def _stretches(matches: CocoMatches) -> NDArray[np.int64]:
    """Per detection the number of its stretch: neighbours of one class, score and image."""
    new = np.zeros(len(matches.image), dtype=bool)
    for column in (matches.class_code, matches.score, matches.image):
        new[1:] |= column[1:] != column[:-1]
    return np.cumsum(new)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One threshold: its groups, hits, and the detections that are counted otherwise than by size.

    `fixes` are these, `signs` 1 where one is counted although its size is out of range, else -1.
    """

    stretch: NDArray[np.int64]
    hits: NDArray[np.int64]
    counted: NDArray[np.int64]
    place: NDArray[np.int64]
    fixes: NDArray[np.int32]
    signs: NDArray[np.int64]


def _block(
    matches: CocoMatches,
    stretch: NDArray[np.int64],
    edges: NDArray[np.int64],
    area: int,
    threshold: int,
) -> _Block:
    """The groups, hits and fixes of one area range and threshold."""
    row = area * len(THRESHOLDS) + threshold
    counted = matches.counted(area, threshold)
    before = np.concatenate([[0], np.cumsum(counted)])
    det, fixes = matches.right.places(row), matches.moved.places(row)
    groups, hits = np.unique(stretch[det], return_counts=True)
    return _Block(
        stretch=groups,
        hits=hits,
        counted=before[edges[groups + 1]] - before[edges[groups]],
        place=before[det + 1] - before[edges[stretch[det]]],
        fixes=fixes,
        signs=np.where(counted[fixes], 1, -1),
    )


def average_precision(
    table: PrecisionTable, weights: NDArray[np.int64], positives: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean interpolated precision (thresholds, classes) of one draw; NaN without ground truth.

    `weights` (images) are whole numbers, `positives` (classes) that draw's ground truth. The mean
    over the 101 recall points is taken as pycocotools takes it.
    """
    precision, starts, sizes = _precision_at_hits(table, weights)
    shape = (len(table.thresholds), table.num_classes)
    needed = _hits_needed(positives)
    reached = needed <= sizes.reshape(shape)[..., None]
    start, size = starts.reshape(shape)[..., None], sizes.reshape(shape)[..., None]
    place = start + np.minimum(needed - 1, size)
    bins = np.maximum.reduceat(np.append(precision, 0.0), place.ravel()).reshape(place.shape)
    bins *= reached
    envelope = np.maximum.accumulate(bins[..., ::-1], axis=-1)[..., ::-1]
    out = np.asarray(envelope.mean(axis=-1), dtype=np.float64)
    out[:, positives == 0] = np.nan
    return out


def _precision_at_hits(
    table: PrecisionTable, weights: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Precision at every hit of the draw, and per segment its first hit and number of hits."""
    sums = np.zeros(len(table.base) + 1, dtype=np.int64)
    np.cumsum(table.base * weights.take(table.stretch_image), out=sums[1:])
    before = sums.take(table.group_base)
    offset = sums.take(table.segment_base)
    if len(table.fix_image):
        fixes = np.zeros(len(table.fix_image) + 1, dtype=np.int64)
        np.cumsum(table.fix_sign * weights.take(table.fix_image), out=fixes[1:])
        before += fixes.take(table.group_fix)
        offset += fixes.take(table.segment_fix)
    before -= offset.take(table.group_segment)
    times = weights.take(table.group_image)
    ends = np.zeros(len(times) + 1, dtype=np.int64)
    np.cumsum(times * table.group_hits, out=ends[1:])
    ends = ends.take(table.segment_first_group)
    starts, sizes = ends[:-1], np.diff(ends)
    group, copy = _repeated(times)
    counted = before.take(group)
    # Copies of one stretch follow each other, each behind the whole copy before it.
    counted += copy * table.group_counted.take(group)
    hit = table.group_first_hit.take(group)
    if table.some_hits_share_a_stretch:
        of, inside = _repeated(table.group_hits.take(group))
        hit = hit.take(of) + inside
        counted = counted.take(of)
    counted += table.hit_place.take(hit)
    _, number = _repeated(sizes)
    return (number + 1) / (counted + np.spacing(1)), starts, sizes


def _repeated(times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row i, `times[i]` times over, and which of its repeats each is; far faster than np.repeat."""
    ends = np.cumsum(times)
    total = int(ends[-1]) if len(ends) else 0
    # Place p belongs to the row before which exactly the rows ending at or below p stand.
    row = np.cumsum(np.bincount(ends, minlength=total + 1)[:total])
    return row, np.arange(total) - (ends - times).take(row)


def _hits_needed(positives: NDArray[np.int64]) -> NDArray[np.int64]:
    """Smallest number of hits whose recall reaches each recall point; at least 1."""
    total = np.maximum(positives, 1)[..., None].astype(np.float64)
    needed = np.ceil(RECALL_POINTS * total)
    # The product is rounded; the comparison that counts is the quotient's.
    needed -= (needed - 1) / total >= RECALL_POINTS
    needed += needed / total < RECALL_POINTS
    return np.maximum(needed.astype(np.int64), 1)


__all__ = [
    "RECALL_POINTS",
    "PrecisionTable",
    "average_precision",
    "precision_tables",
]
