"""Per-image sufficient statistics of a scored run, as a matrix that draws are multiplied with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.classes import NAME_RULES
from coordeval.metrics.health import detail_key
from coordeval.metrics.tables import per_image_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult

CELLS_AT_ONCE = 1 << 19


class ImageTable:
    """Named columns over images (run order), float64: sums over rows give the micro numbers.

    The columns of `ScoreResult.per_image` with `one`, `alive` and what else the metrics need.
    Columns that are unknown for an image (tokens) hold 0 there and have a `has_<name>` beside
    them. Most are small counts, and are held as such.
    """

    def __init__(self, result: ScoreResult) -> None:
        self.num_images = result.columns.num_images
        self._columns: dict[str, NDArray[np.generic]] = {}
        self._add_per_image(result)
        self._add_counts(result)
        self._add_records(result)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self._columns[name].astype(np.float64)

    @property
    def names(self) -> list[str]:
        """All columns, in the order of `matrices`."""
        return list(self._columns)

    def matrices(self) -> Iterator[NDArray[np.float64]]:
        """Columns side by side, (images, columns), some of them at a time."""
        names = self.names
        width = max(32, CELLS_AT_ONCE // max(self.num_images, 1))
        for first in range(0, len(names), width):
            part = names[first : first + width]
            yield np.column_stack([self[name] for name in part])

    def add(self, name: str, values: NDArray[np.generic]) -> None:
        """Store one column (images)."""
        assert values.shape == (self.num_images,)
        self._columns[name] = narrowed(values.astype(np.float64))

    def _add_per_image(self, result: ScoreResult) -> None:
        table = per_image_table(result)  # not the result's own, which stays
        for name in table.columns:
            if name in ("id", "image", "image_id", "finish_reason"):
                continue
            values = table[name]
            if values.isna().any():
                self.add(f"has_{name}", values.notna().to_numpy())
                values = values.fillna(0)
            elif name in ("tokens", "wasted_tokens", "slot_mass_min"):
                self.add(f"has_{name}", np.ones(self.num_images))
            self.add(str(name), values.to_numpy(dtype=np.float64))
        self.add("one", np.ones(self.num_images))
        self.add("alive", result.columns.alive)

    def _add_counts(self, result: ScoreResult) -> None:
        columns = result.columns
        alive = columns.alive
        # All predictions, also those that a protocol's scope takes out of the scoring.
        written = self._count(columns.record_image[columns.record_valid]) - columns.pred.lines
        self.add("written", written)
        difference = np.where(alive, written - self["gt"], 0)
        self.add("count_diff", difference)
        self.add("count_abs", np.abs(difference))
        self.add("count_exact", alive & (difference == 0))
        self.add("surplus", np.maximum(difference, 0))
        self.add("drops", self["found"] - self["valid"])
        image = columns.gt.shapes.image
        self.add("gt_crowd", self._count(image[columns.gt.crowd]))
        self.add("gt_unscored", columns.gt.lines)
        pred_image = columns.pred.shapes.image
        self.add("unknown_class", self._unknown_names(result))
        _, inverse, counts = np.unique(result.scores, return_inverse=True, return_counts=True)
        self.add("tied", self._count(pred_image[counts[inverse] > 1]))
        self.add("scored_pred", self._count(pred_image))

    def _unknown_names(self, result: ScoreResult) -> NDArray[np.int64]:
        columns, records = result.columns, result.columns.records
        normalise = NAME_RULES[result.protocol["name_rule"]]
        known = columns.names.codes
        unknown = {desc for desc in records.desc.distinct() if normalise(desc) not in known}
        if not unknown:
            return np.zeros(self.num_images, dtype=np.int64)
        named = zip(columns.record_valid, records.desc, records.kind, strict=True)
        wrong = (valid and desc in unknown and kind != "line" for valid, desc, kind in named)
        rows = np.fromiter(wrong, dtype=bool, count=len(records))
        return self._count(columns.record_image[rows])

    def _add_records(self, result: ScoreResult) -> None:
        columns, records = result.columns, result.columns.records
        repeats = result.duplicates
        copies = np.bincount(repeats.key[repeats.readable], minlength=len(records))
        most = np.zeros(self.num_images)
        np.maximum.at(most, columns.record_image, copies)
        self.add("max_repeat", most)
        details: dict[str, list[int]] = {}
        for row in np.flatnonzero(~columns.record_valid).tolist():
            detail = records.detail[row]
            if detail is None:
                continue
            name = f"detail_{records.reason[row]}/{detail_key(detail)}"
            details.setdefault(name, []).append(records.image[row])
        issues: dict[str, list[int]] = {}
        for entry in columns.images:
            for issue in entry.issues:
                issues.setdefault(f"has_issue_{issue}", []).append(entry.index)
        for name, images in (details | issues).items():
            self.add(name, self._count(np.array(images)))

    def _count(self, image: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        return np.bincount(image, minlength=self.num_images)


def narrowed(values: NDArray[np.float64]) -> NDArray[np.generic]:
    """The same numbers in the smallest type that holds them all exactly."""
    if len(values):
        low, high = values.min(), values.max()
        for dtype in (np.int8, np.int16, np.int32):
            limits = np.iinfo(dtype)
            if limits.min <= low and high <= limits.max:
                whole = values.astype(dtype)
                return whole if bool((whole == values).all()) else values
    return values


__all__ = ["ImageTable", "narrowed"]
