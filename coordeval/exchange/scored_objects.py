"""A scored run image by image: the view that exports and drawings share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from coordeval.metrics.columns import ImageEntry
    from coordeval.metrics.result import ScoreResult

BoxPx = tuple[float, float, float, float]
_NEEDED = (
    "id",
    "role",
    "index",
    "desc",
    "class",
    "kind",
    "values",
    "x1_px",
    "y1_px",
    "x2_px",
    "y2_px",
    "reason",
    "detail",
    "score",
    "exact_repeat",
    "near_repeat",
    "verdict",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredObject:
    """One predicted record or ground-truth object of an image, in pixels of the upright image.

    `verdict` as in the objects table. `box_px` is None for records without readable coordinates,
    `points_px` holds a polygon's or line's x, y, x, y, ...; nothing is clipped to the image.
    """

    role: str
    index: int
    desc: str | None
    class_name: str | None
    verdict: str
    kind: str | None
    box_px: BoxPx | None
    points_px: tuple[float, ...] | None
    score: float | None = None
    reason: str | None = None
    detail: str | None = None
    copy: str | None = None
    crowd: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredImage:
    """One image of a scored run: ground truth, and found records in emission order."""

    entry: ImageEntry
    image_id: int
    gt: tuple[ScoredObject, ...]
    records: tuple[ScoredObject, ...]

    @property
    def predictions(self) -> tuple[ScoredObject, ...]:
        """The valid predictions that have a place in the image."""
        return tuple(
            record
            for record in self.records
            if record.verdict != "dropped" and record.box_px is not None
        )


def scored_images(result: ScoreResult, *, only: str | None = None) -> Iterator[ScoredImage]:
    """The images of a scored run in its order, or the one with the id `only`.

    The ids of the images are those of `image_ids`, as in coco_results.
    """
    entries = result.columns.images
    ids = image_ids(result)
    # Grouped by hand: pandas' own grouping fails on ids that are not valid Unicode.
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in _dicts(_plain(result.objects, only)):
        groups.setdefault(row["id"], []).append(row)
    for place, entry in enumerate(entries):
        if only is not None and entry.id != only:
            continue
        objects = [_object(row, result, entry) for row in groups.get(entry.id, ())]
        yield ScoredImage(
            entry=entry,
            image_id=ids[place],
            gt=tuple(item for item in objects if item.role == "gt"),
            records=tuple(item for item in objects if item.role == "pred"),
        )


def image_ids(result: ScoreResult) -> list[int]:
    """One number per image: the run's own where every image has its own, else 1, 2, ..."""
    given = [entry.image_id for entry in result.columns.images]
    own = [number for number in given if number is not None]
    if len(own) == len(given) == len(set(own)):
        return own
    return list(range(1, len(given) + 1))


def _plain(table: pd.DataFrame, only: str | None) -> pd.DataFrame:
    rows = table if only is None else table[[name == only for name in table["id"].tolist()]]
    return rows.astype(object).where(rows.notna(), None)


def _dicts(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    columns = [rows[name].tolist() for name in _NEEDED]
    for values in zip(*columns, strict=True):
        yield dict(zip(_NEEDED, values, strict=True))


def _object(row: dict[str, Any], result: ScoreResult, entry: ImageEntry) -> ScoredObject:
    is_gt = row["role"] == "gt"
    box = None
    if row["x1_px"] is not None:
        box = tuple(float(row[f"{side}_px"]) for side in ("x1", "y1", "x2", "y2"))
    values = None if row["values"] is None else [float(value) for value in row["values"]]
    points = None
    if values is not None and (box is None or row["kind"] in {"poly", "line"}):
        points = tuple(values) if is_gt else tuple(_in_px(values, result, entry))
    if box is None and points is not None and len(points) >= 4 and len(points) % 2 == 0:
        box = _hull(points)
    copy = "exact" if row["exact_repeat"] else "near" if row["near_repeat"] else None
    return ScoredObject(
        role=row["role"],
        index=int(row["index"]),
        desc=row["desc"],
        class_name=row["class"],
        verdict=str(row["verdict"]),
        kind=row["kind"],
        box_px=box,  # type: ignore[arg-type]  # four sides
        points_px=points if row["kind"] in {"poly", "line"} else None,
        score=None if row["score"] is None else float(row["score"]),
        reason=row["reason"],
        detail=row["detail"],
        copy=copy,
        crowd=row["verdict"] == "crowd",
    )


def _in_px(values: list[float], result: ScoreResult, entry: ImageEntry) -> list[float]:
    """Values as written to pixels, by the dialect and frame that the run was read with."""
    from coordeval.coords import frame_named
    from coordeval.parsers.dialects import dialect_from_json, value_frame

    dialect = dialect_from_json(result.reading["dialect"])
    frame = value_frame(dialect, frame_named(str(result.reading["frame"])))
    if frame is None or len(values) % 2:
        return values
    pixels: list[float] = frame.to_pixels(values, entry.width, entry.height).tolist()
    return pixels


def _hull(points: tuple[float, ...]) -> tuple[float, ...]:
    xs, ys = points[0::2], points[1::2]
    return min(xs), min(ys), max(xs), max(ys)


__all__ = ["BoxPx", "ScoredImage", "ScoredObject", "image_ids", "scored_images"]
