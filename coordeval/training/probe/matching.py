"""Which boxes of a rollout found which ground truth, and what that says about their slots.

Records are matched as F1 at IoU 0.50 matches them. Only box against box gives slot by slot labels:
the points of a polygon need not start at the same corner, or be as many.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coordeval.coords import quantise
from coordeval.data.ordering import order_objects
from coordeval.metrics.geometry import polygon_area
from coordeval.metrics.score import score_run
from coordeval.stats.pairing import PartialRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.coords import CoordFrame
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GroundTruthObject, Sample
    from coordeval.runs import Run
    from coordeval.training.probe.inputs import ProbeItem
    from coordeval.training.probe.texts import ProbeText

MATCH_IOU = 0.5
BOX_SLOTS = 4


class MatchedBox(NamedTuple):
    """A valid box of a rollout and the ground-truth box that it found.

    `record` counts the found records of the text; `object_index` the objects of the sample;
    `written_bins` and `true_bins` are x1, y1, x2, y2.
    """

    record: int
    object_index: int
    written_bins: tuple[int, ...]
    true_bins: tuple[int, ...]


def matched_boxes(
    run: Run, items: Sequence[ProbeItem], dialect: Dialect, frame: CoordFrame
) -> list[list[MatchedBox]]:
    """Matched boxes per item, in the order of the records; none for failed rollouts."""
    partial = PartialRun(
        path=run.path,
        rollouts_path=run.rollouts_path,
        meta=run.meta | {"frame": frame.name},
        chosen=tuple(item.rollout for item in items),
    )
    result = score_run(partial, dialect=dialect, score_source="constant")
    columns, aware = result.columns, result.scored.aware
    partner = aware.partner[aware.thresholds.index(MATCH_IOU)]
    gt_start = np.searchsorted(columns.gt.shapes.image, np.arange(len(items) + 1))
    scored = [scored_objects(item.sample.objects) for item in items]
    assert np.diff(gt_start).tolist() == [len(indices) for indices in scored]
    out: list[list[MatchedBox]] = [[] for _ in items]
    for row in np.flatnonzero(partner >= 0).tolist():
        image = int(columns.pred.shapes.image[row])
        record_row = int(columns.pred.record[row])
        index = scored[image][int(partner[row]) - int(gt_start[image])]
        sample = items[image].sample
        obj = sample.objects[index]
        values = columns.records.values[record_row]
        is_box = columns.records.kind[record_row] == "bbox_2d" and obj.kind == "bbox_2d"
        if not is_box or values is None:
            continue
        bins = quantise(obj.values_px, sample.width, sample.height, frame).bins
        record = record_row - columns.images[image].first_record
        out[image].append(MatchedBox(record, index, tuple(values), bins))
    for boxes in out:
        boxes.sort()
    return out


def scored_objects(objects: Sequence[GroundTruthObject]) -> list[int]:
    """Indices of the objects that scoring looks at: boxes and polygons with an area."""
    return [index for index, obj in enumerate(objects) if _area(obj) > 0]


def _area(obj: GroundTruthObject) -> float:
    if obj.kind == "line":
        return 0.0
    if obj.kind == "poly":
        return polygon_area(obj.values_px)
    x1, y1, x2, y2 = obj.values_px
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)


def written_order(sample: Sample) -> list[int]:
    """Which object of the sample each record of its canonical text is."""
    places: dict[int, list[int]] = defaultdict(list)
    for index, obj in enumerate(sample.objects):
        places[id(obj)].append(index)
    ordinary = [obj for obj in sample.objects if not obj.iscrowd]
    ordered = order_objects(ordinary, "sorted", key=sample.id)
    return [places[id(obj)].pop(0) for obj in ordered]


def label_rollout(text: ProbeText, boxes: Sequence[MatchedBox]) -> ProbeText:
    """The rollout's text with the true bins of its matched boxes.

    A box counts only where its four slots are found and hold what the parser read.
    """
    by_record = {box.record: box for box in boxes}
    return _labelled(text, by_record)


def label_ground_truth(text: ProbeText, sample: Sample, boxes: Sequence[MatchedBox]) -> ProbeText:
    """The ground truth's text, with the true bins marked of those boxes that the rollout found."""
    found = {box.object_index: box for box in boxes}
    by_record = {
        record: found[index]._replace(written_bins=found[index].true_bins)
        for record, index in enumerate(written_order(sample))
        if index in found
    }
    return _labelled(text, by_record)


def _labelled(text: ProbeText, by_record: Mapping[int, MatchedBox]) -> ProbeText:
    true_bins, objects = text.true_bins.copy(), text.objects.copy()
    slots_of = _slots_by_record(text)
    for record, box in by_record.items():
        slots = slots_of.get(record, {})
        written = [text.places[slots[n]] if n in slots else None for n in range(BOX_SLOTS)]
        bins = [None if place is None else place.written_bin for place in written]
        if len(slots) != BOX_SLOTS or bins != list(box.written_bins):
            continue
        rows = [slots[n] for n in range(BOX_SLOTS)]
        true_bins[rows], objects[rows] = box.true_bins, box.object_index
    return text._replace(true_bins=true_bins, objects=objects)


def _slots_by_record(text: ProbeText) -> dict[int, dict[int, int]]:
    """Per record and slot of its list, the row in the text's slots."""
    out: dict[int, dict[int, int]] = defaultdict(dict)
    for row, place in enumerate(text.places):
        if place is not None:
            out[place.record][place.slot] = row
    return out


def shared_objects(truth: ProbeText, rollout: ProbeText) -> NDArray[np.int64]:
    """Objects whose slots are labelled in both texts, so that both contexts show the same boxes."""
    return np.intersect1d(truth.objects[truth.objects >= 0], rollout.objects[rollout.objects >= 0])


__all__ = [
    "MATCH_IOU",
    "MatchedBox",
    "label_ground_truth",
    "label_rollout",
    "matched_boxes",
    "scored_objects",
    "shared_objects",
    "written_order",
]
