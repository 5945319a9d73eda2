"""What control and record of decoding say about one rollout: its guard, and its weak slots."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.counted import counted
from coordeval.metrics.guard_metrics import is_stopped, kind_of, whole_number
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from coordeval.metrics.columns import ImageEntry
    from coordeval.metrics.slot_columns import Slots

_KINDS = {
    "exact": "exact repeats",
    "block": "a repeated block of records",
    "near": "near repeats",
    "cycle": "a cycle of tokens",
    "other": "a loop",
}
_SHOWN_BOUND = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotNote:
    """One slot of a record; `lost` says that another token was more probable than every bin.

    `foreign`: no coordinate was written there. `mass` is the coordinate mass, at most
    `mass + bound`; None for what is not known.
    """

    slot: int
    foreign: bool
    lost: bool
    mass: float | None
    bound: float
    top_bin: int | None
    top_prob: float | None
    other_text: str | None
    other_prob: float | None

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)

    @property
    def text(self) -> str:
        """What the model thought there, in words."""
        parts = []
        if self.mass is not None:
            mass = f"coordinate mass {self.mass:.2f}"
            if self.bound >= _SHOWN_BOUND:
                mass += f" to {min(self.mass + self.bound, 1.0):.2f}"
            parts.append(mass)
        if self.other_text is not None and self.other_prob is not None:
            shown = printable(self.other_text, limit=24)
            parts.append(f'best other token "{shown}" {self.other_prob:.2f}')
        return ", ".join(parts)


def weak_slots(slots: Slots | None, image: int) -> dict[int, list[SlotNote]]:
    """Found record -> its slots where control was lost or no coordinate stands; none without."""
    if slots is None:
        return {}
    rows = slots.rows_of(image)
    lost, judged = slots.lost()
    out: dict[int, list[SlotNote]] = {}
    for row in rows:
        is_lost, foreign = bool(lost[row] and judged[row]), bool(slots.is_foreign[row])
        if is_lost or foreign:
            note = SlotNote(
                slot=int(slots.slot[row]),
                foreign=foreign,
                lost=is_lost,
                mass=_number(slots.coord_mass[row]),
                bound=float(slots.mass_bound[row]),
                top_bin=None if slots.top_bin[row] < 0 else int(slots.top_bin[row]),
                top_prob=_number(slots.top_prob[row]),
                other_text=slots.other_text[row],
                other_prob=_number(slots.other_prob[row]),
            )
            out.setdefault(int(slots.record[row]), []).append(note)
    return out


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def guard_text(entry: ImageEntry) -> str | None:
    """What the loop guard did to a rollout, in one line; None where it saw nothing."""
    kind = kind_of(entry)
    if kind is None:
        return None
    stopped = is_stopped(entry)
    text = f"{'stopped' if stopped else 'marked'} by the loop guard: {_KINDS[kind]}"
    onset, saved = whole_number(entry, "onset"), whole_number(entry, "tokens_saved")
    if onset is not None:
        text += f" from token {onset}"
    if stopped and saved is not None:
        text += f", saved {counted(saved, 'token')}"
    return text


__all__ = ["SlotNote", "guard_text", "weak_slots"]
