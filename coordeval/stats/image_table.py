"""Per-image sufficient statistics of a scored run, as one matrix that draws are multiplied with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.classes import NAME_RULES
from coordeval.metrics.health import detail_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult


class ImageTable:
    """Named columns over images (run order), float64: sums over rows give the micro numbers.

    The columns of `ScoreResult.per_image` with `one`, `alive` and what else the metrics need.
    Columns that are unknown for an image (tokens) hold 0 there and have a `has_<name>` beside
    them.
    """

    def __init__(self, result: ScoreResult) -> None:
        self.num_images = result.columns.num_images
        self._columns: dict[str, NDArray[np.float64]] = {}
        self._add_per_image(result)
        self._add_counts(result)
        self._add_records(result)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self._columns[name]

    @property
    def names(self) -> list[str]:
        """All columns, in the order of `matrix`."""
        return list(self._columns)

    def matrix(self) -> NDArray[np.float64]:
        """Columns side by side, (images, columns)."""
        return np.column_stack(list(self._columns.values()))

    def add(self, name: str, values: NDArray[np.generic]) -> None:
        """Store one column (images)."""
        assert values.shape == (self.num_images,)
        self._columns[name] = values.astype(np.float64)

    def add_all(self, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """Store several columns."""
        for name, values in columns.items():
            self.add(name, values)

    def _add_per_image(self, result: ScoreResult) -> None:
        table = result.per_image
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
        unknown = {
            desc: normalise(desc) not in known for desc in set(records.desc) if desc is not None
        }
        rows = [
            row
            for row in np.flatnonzero(columns.record_valid).tolist()
            if unknown.get(records.desc[row] or "", False) and records.kind[row] != "line"
        ]
        return self._count(columns.record_image[rows])

    def _add_records(self, result: ScoreResult) -> None:
        columns, records = result.columns, result.columns.records
        repeats = result.duplicates
        copies = np.bincount(repeats.key[repeats.readable], minlength=len(records))
        most = np.zeros(self.num_images)
        np.maximum.at(most, columns.record_image, copies)
        self.add("max_repeat", most)
        details: dict[str, NDArray[np.int64]] = {}
        for row in np.flatnonzero(~columns.record_valid).tolist():
            detail = records.detail[row]
            if detail is None:
                continue
            name = f"detail_{records.reason[row]}/{detail_key(detail)}"
            column = details.setdefault(name, np.zeros(self.num_images, dtype=np.int64))
            column[records.image[row]] += 1
        self.add_all(details)
        issues: dict[str, NDArray[np.bool_]] = {}
        for entry in columns.images:
            for issue in entry.issues:
                flags = issues.setdefault(
                    f"has_issue_{issue}", np.zeros(self.num_images, dtype=bool)
                )
                flags[entry.index] = True
        self.add_all(issues)

    def _count(self, image: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(image, minlength=self.num_images)


__all__ = ["ImageTable"]
