"""Coordinate-slot telemetry beside the headline's images, as flat columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.sample_run import headline_index
from coordeval.runs import read_slots
from coordeval.slot_table import slot_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from coordeval.metrics.columns import ImageEntry
    from coordeval.runs import Run

# Sums of probabilities that an engine reports miss 1 by float noise only.
_ALL = 1.0 - 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Readings of the headline rollouts, sorted by image and token; all arrays are (slots).

    `image` is the row of the image; the other fields are those of `SlotReading`, with NaN for a
    number that is not known and -1 for a bin that is not.
    """

    image: NDArray[np.int64]
    token: NDArray[np.int64]
    record: NDArray[np.int64]
    slot: NDArray[np.int64]
    written_bin: NDArray[np.int64]
    top_bin: NDArray[np.int64]
    coord_mass: NDArray[np.float64]
    mass_bound: NDArray[np.float64]
    top_prob: NDArray[np.float64]
    entropy: NDArray[np.float64]
    other_prob: NDArray[np.float64]
    other_text: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.image)

    @property
    def is_foreign(self) -> NDArray[np.bool_]:
        """Slots in which something else than a coordinate token was written."""
        return self.written_bin < 0

    def lost(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Slots where the best other token beats the best bin, and slots where that is known.

        Among the top tokens of an engine, a side that is missing altogether has lost.
        """
        no_bin = np.isnan(self.top_prob) & (self.coord_mass == 0)
        no_other = np.isnan(self.other_prob) & (self.coord_mass + self.mass_bound >= _ALL)
        bins = np.where(no_bin, 0.0, self.top_prob)
        others = np.where(no_other, 0.0, self.other_prob)
        return others > bins, ~(np.isnan(bins) | np.isnan(others))

    def rows_of(self, image: int) -> range:
        """The rows of one image."""
        first, last = np.searchsorted(self.image, [image, image + 1]).tolist()
        return range(first, last)


def slot_columns(run: Run, images: Sequence[ImageEntry]) -> Slots | None:
    """Readings of the headline rollouts among `images`; None where the run has no telemetry.

    Readings of other samples, of ids without a line (a rollout that was cut off before it was
    stored) and of engine errors are left out; of two readings of one token the later one counts.
    Raises DataError where the table cannot be read.
    """
    table = read_slots(run)
    if table is None:
        return None
    place = {slot_key(entry.id, 0)[0]: entry.index for entry in images if not entry.failed}
    table = table[table["sample_index"] == headline_index(run)]
    table = table.assign(image=table["id"].map(place))
    table = table[table["image"].notna()].drop_duplicates(["image", "token"], keep="last")
    return _columns(table.sort_values(["image", "token"], kind="stable"))


def _columns(table: pd.DataFrame) -> Slots:
    def numbers(name: str) -> NDArray[np.float64]:
        values = table[name].astype("Float64")
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))

    def whole(name: str) -> NDArray[np.int64]:
        values = table[name].astype("Int64")
        return np.asarray(values.to_numpy(dtype=np.int64, na_value=-1))

    return Slots(
        image=whole("image"),
        token=whole("token"),
        record=whole("record"),
        slot=whole("slot"),
        written_bin=whole("written_bin"),
        top_bin=whole("top_bin"),
        coord_mass=numbers("coord_mass"),
        mass_bound=np.nan_to_num(numbers("mass_bound")),
        top_prob=numbers("top_prob"),
        entropy=numbers("entropy"),
        other_prob=numbers("other_prob"),
        other_text=table["other_text"].tolist(),
    )


__all__ = ["Slots", "slot_columns"]
