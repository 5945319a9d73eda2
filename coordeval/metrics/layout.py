"""The flat columns of a run, laid out part by part, so that a few bytes per object are kept.

A part is some rollouts with their records as lists. Names become numbers here, and the numbers
class codes at the end, because only the whole run says which classes there are.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS, NormalisedNames
from coordeval.metrics.columns import AllRecords, Columns, PredColumns
from coordeval.metrics.compact import Numbers
from coordeval.metrics.geometry import whole_pixels_clamped
from coordeval.metrics.gt_columns import TruthColumns
from coordeval.metrics.iou import Shapes
from coordeval.metrics.names.matching import find_classes
from coordeval.metrics.pred_columns import pred_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.coords import CoordFrame
    from coordeval.metrics.columns import ImageEntry, RecordColumns
    from coordeval.metrics.other_samples import OtherSamples
    from coordeval.metrics.protocols import Protocol
    from coordeval.records import Category, GroundTruthObject


class Layout:
    """Columns of a run in the making; `frame` None reads values as pixels."""

    def __init__(self, protocol: Protocol, frame: CoordFrame | None) -> None:
        self.images: list[ImageEntry] = []
        self.records = AllRecords()
        self._frame = frame
        self._whole_pixels = protocol.boxes == "whole_pixels_clamped"
        self._matching = protocol.names
        self._normalise = NormalisedNames(protocol.name_rule)
        self._sizes = Numbers(np.int64, width=2)
        self._valid = Numbers(np.bool_)
        self._scores = Numbers(np.float64)
        self._gt = TruthColumns(self._normalise, whole_pixels=self._whole_pixels)
        self._pred = _Predictions()

    def add(
        self,
        images: Sequence[ImageEntry],
        records: RecordColumns,
        truth: Sequence[tuple[GroundTruthObject, ...]],
        scores: Sequence[float],
    ) -> None:
        """Add images with their records (`image` counts from the first of them) and objects.

        `scores` are those of the records of the images that bring any.
        """
        sizes = np.array([(entry.width, entry.height) for entry in images], dtype=np.int64)
        sizes = sizes.reshape(-1, 2)
        valid = np.array([reason is None for reason in records.reason], dtype=bool)
        image = np.asarray(list(records.image), dtype=np.int64)
        pred = self._predictions(records, image, valid, sizes, self._pred.number_of)
        first_image = len(self.images)
        self._pred.add(pred, first_image=first_image, first_record=len(self.records))
        self._gt.add(truth, sizes, first_image=first_image)
        self.records.extend(records, first_image=first_image)
        self.images.extend(images)
        self._sizes.extend(sizes)
        self._valid.extend(valid)
        self._scores.extend(scores)

    def _predictions(
        self,
        records: RecordColumns,
        image: NDArray[np.int64],
        valid: NDArray[np.bool_],
        sizes_wh: NDArray[np.int64],
        code_of: Callable[[str], int],
    ) -> PredColumns:
        pred = pred_columns(records, image, valid, sizes_wh, self._frame, self._normalise, code_of)
        if self._whole_pixels:
            pred = replace(pred, shapes=whole_pixels_clamped(pred.shapes, sizes_wh))
        return pred

    def columns(
        self,
        others: OtherSamples,
        *,
        categories: Sequence[Category] | None,
        dataset_classes: Sequence[Category],
    ) -> Columns:
        """Find the classes, and give every object its own; nothing may be added after it."""
        names = find_classes(
            self._matching,
            categories=categories,
            truth=self._gt.descs(),
            predicted=chain(self.records.desc.distinct(), others.descs()),
            normalise=self._normalise,
            category_ids=self._gt.category_ids,
        )
        codes, sizes_wh = names.codes, self._sizes.array()

        def predictions(parts: Iterable[tuple[slice, RecordColumns]]) -> PredColumns:
            held, first = _Predictions(), 0
            for images, records in parts:
                image = np.asarray(list(records.image), dtype=np.int64)
                valid = np.ones(len(records), dtype=bool)
                sizes = sizes_wh[images]
                pred = self._predictions(records, image, valid, sizes, held.number_of)
                held.add(pred, first_image=images.start, first_record=first)
                first += len(records)
            return held.columns(codes)

        known = [
            category for category in dataset_classes if self._normalise[category.name] in codes
        ]
        return Columns(
            images=self.images,
            records=self.records,
            record_image=self.records.image.array().astype(np.int32),
            record_valid=self._valid.array(),
            record_scores=self._scores.array(),
            gt=self._gt.columns(codes),
            pred=self._pred.columns(codes),
            names=names,
            sizes_wh=sizes_wh,
            alive=np.array([not entry.failed for entry in self.images], dtype=bool),
            others=others.by_index([entry.id for entry in self.images], predictions),
            category_codes={number: codes[name] for number, name in self._gt.names_of_ids.items()}
            | {category.id: codes[self._normalise[category.name]] for category in known},
            frequency={
                codes[self._normalise[category.name]]: category.frequency
                for category in known
                if category.frequency is not None
            },
            extra={"other_samples": len(others)},
        )


class _Predictions:
    """The predictions of all parts; their `class_code` are numbers of names until the end."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._image = Numbers(np.int64)
        self._boxes = Numbers(np.float64, width=4)
        self._record, self._name, self._copy_group = (Numbers(np.int32) for _ in range(3))
        self._is_copy = Numbers(np.bool_)
        self._lines, self._outside = Numbers(np.int64), Numbers(np.int64)
        self._polygons: dict[int, Sequence[float]] = {}

    def number_of(self, name: str) -> int:
        """The number of a normalised name."""
        return self._numbers.setdefault(name, len(self._numbers))

    def add(self, part: PredColumns, *, first_image: int, first_record: int) -> None:
        first = len(self._image)
        self._image.extend(part.shapes.image + first_image)
        self._boxes.extend(part.shapes.boxes)
        self._polygons |= {first + row: points for row, points in part.shapes.polygons.items()}
        self._record.extend(part.record + first_record)
        self._name.extend(part.class_code)
        self._copy_group.extend(part.copy_group + first)
        self._is_copy.extend(part.is_copy)
        self._lines.extend(part.lines)
        self._outside.extend(part.outside)

    def columns(self, codes: Mapping[str, int]) -> PredColumns:
        code_of_number = np.array(
            [codes.get(name, UNKNOWN_CLASS) for name in self._numbers], dtype=np.int32
        )
        return PredColumns(
            shapes=Shapes(
                image=self._image.array(), boxes=self._boxes.array(), polygons=self._polygons
            ),
            record=self._record.array(),
            class_code=code_of_number[self._name.array()],
            copy_group=self._copy_group.array(),
            is_copy=self._is_copy.array(),
            lines=self._lines.array(),
            outside=self._outside.array(),
        )


__all__ = ["Layout"]
