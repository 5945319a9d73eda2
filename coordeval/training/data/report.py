"""What a training makes of a dataset: what is taught, what is left out, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from coordeval.data.geometry import is_degenerate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordeval.records import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """Counts over one dataset, after its limit; samples: read = used + over_long + unfit_images.

    `objects` are taught; `crowd_objects` and `degenerate_objects` (without area or length) are left
    out of the answers, and `emptied_samples` have no object left because of that. `unfit_images`
    are too narrow for the patch grid. `coordinates` and `boxes` count what is taught in
    coordinate tokens. Lengths are tokens of prompt, image and answer; None without samples.
    """

    samples_read: int
    samples_used: int
    over_long: int
    unfit_images: int
    objects: int
    crowd_objects: int
    degenerate_objects: int
    emptied_samples: int
    coordinates: int
    boxes: int
    longest: int | None
    tokens: int
    over_long_ids: tuple[str, ...] = ()
    unfit_image_ids: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)

    def notes(self) -> list[str]:
        """One line for each kind of thing that is left out; none where everything is taught."""
        lines = []
        if self.over_long:
            ids = _shown(self.over_long_ids)
            lines.append(f"{self.over_long} samples above data.max_length left out: {ids}")
        if self.unfit_images:
            ids = _shown(self.unfit_image_ids)
            lines.append(
                f"{self.unfit_images} images that do not fit the patch grid left out: {ids}"
            )
        if self.degenerate_objects:
            lines.append(f"{self.degenerate_objects} objects without area left out of the answers")
        if self.crowd_objects:
            lines.append(f"{self.crowd_objects} crowd regions left out of the answers")
        if self.emptied_samples:
            lines.append(
                f"{self.emptied_samples} samples have no object left and teach an empty list"
            )
        return lines


@dataclass(slots=True)
class Cleaned:
    """Samples whose objects can all be taught, and how many objects were left out.

    `objects` counts those that were annotated, crowd regions not counted.
    """

    samples: list[Sample]
    objects: int = 0
    crowd: int = 0
    degenerate: int = 0
    emptied_ids: frozenset[str] = frozenset()


def clean(samples: Iterable[Sample]) -> Cleaned:
    """Leave crowd regions and degenerate objects out of every sample; samples stay."""
    out = Cleaned([])
    emptied = set()
    for sample in samples:
        wanted = [obj for obj in sample.objects if not obj.iscrowd]
        kept = tuple(obj for obj in wanted if not is_degenerate(obj))
        out.objects += len(wanted)
        out.crowd += len(sample.objects) - len(wanted)
        out.degenerate += len(wanted) - len(kept)
        if sample.objects and not kept:
            emptied.add(sample.id)
        out.samples.append(
            sample if len(kept) == len(sample.objects) else replace(sample, objects=kept)
        )
    out.emptied_ids = frozenset(emptied)
    return out


def _shown(ids: tuple[str, ...], most: int = 3) -> str:
    return ", ".join(map(repr, ids[:most])) + (", ..." if len(ids) > most else "")


__all__ = ["Cleaned", "DataReport", "clean"]
