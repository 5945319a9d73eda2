"""Objects to assistant text: the writer that training targets and test dumps share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from coordeval.coords import coord_token, quantise
from coordeval.data.foreign_text import render_foreign
from coordeval.data.ordering import order_objects
from coordeval.parsers.dialects import value_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordeval.coords import CoordFrame
    from coordeval.data.ordering import ObjectOrder
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Sample

_NO_LIMIT = 10**9


def render_record(desc: str, kind: str, values: Sequence[int], dialect: Dialect) -> str:
    """One record as the dialect writes it; `values` are bins, or pixels in a pixel dialect."""
    if dialect.coordinates == "token":
        written = [coord_token(value) for value in values]
    elif dialect.coordinates == "quoted_token":
        written = [f'"{coord_token(value)}"' for value in values]
    else:
        written = [str(value) for value in values]
    desc_field = f'"desc": {json.dumps(desc, ensure_ascii=False)}'
    geometry_field = f'"{kind}": [{", ".join(written)}]'
    if dialect.field_order == "desc_first":
        return "{" + desc_field + ", " + geometry_field + "}"
    return "{" + geometry_field + ", " + desc_field + "}"


def render_text(
    records: Iterable[tuple[str, str, Sequence[int]]], dialect: Dialect, *, strict: bool = True
) -> str:
    """The whole answer for records (desc, kind, values), on one line, without an end token.

    No records give an empty container. Values outside the bins raise ValueError. Other models'
    dialects have their own form and refusals, see `render_foreign`.
    """
    if dialect.is_foreign:
        return render_foreign(records, dialect, strict=strict)
    parts = [render_record(desc, kind, values, dialect) for desc, kind, values in records]
    if dialect.container == "list":
        return '{"objects": [' + ", ".join(parts) + "]}"
    return "{" + ", ".join(f'"object_{n}": {part}' for n, part in enumerate(parts, start=1)) + "}"


def sample_text(
    sample: Sample,
    *,
    dialect: Dialect,
    frame: CoordFrame,
    order: ObjectOrder,
    seed: int = 0,
    strict: bool = True,
) -> str:
    """The canonical answer for a sample's ground truth (crowd regions left out).

    `order` and `seed` as in `order_objects`. Coordinates are rounded to the nearest bin, or to
    the nearest pixel in a pixel dialect. `strict` as in `render_foreign`.
    """
    own_frame = value_frame(dialect, frame)
    largest = dialect.largest
    objects = [obj for obj in sample.objects if not obj.iscrowd]
    records: list[tuple[str, str, Sequence[int]]] = []
    for obj in order_objects(objects, order, seed=seed, key=sample.id):
        values: Sequence[int]
        if own_frame is None:
            values = [round(value) for value in obj.values_px]
        else:
            values = quantise(
                obj.values_px,
                sample.width,
                sample.height,
                own_frame,
                is_box=obj.kind == "bbox_2d",
                max_bin=_NO_LIMIT if largest is None else largest,
            ).bins
        records.append((obj.desc, obj.kind, values))
    return render_text(records, dialect, strict=strict)


__all__ = ["render_record", "render_text", "sample_text"]
