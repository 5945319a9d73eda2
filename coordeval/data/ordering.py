"""The order in which objects are written: sorted from the top left, or seeded at random."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Literal

from coordeval.data.objects import hull_px

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.records import GroundTruthObject

ObjectOrder = Literal["sorted", "random", "as_is"]


def order_objects(
    objects: Sequence[GroundTruthObject], order: ObjectOrder, *, seed: int = 0, key: str = ""
) -> list[GroundTruthObject]:
    """Objects in writing order.

    `sorted`: by y1, then x1 of the hull, stable on ties. `random`: a shuffle that depends only on
    `seed` (say, the epoch) and `key` (the sample id). `as_is`: the dataset's order.
    """
    if order == "sorted":
        return sorted(objects, key=lambda obj: (hull_px(obj)[1], hull_px(obj)[0]))
    shuffled = list(objects)
    if order == "random":
        digest = hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogatepass")).digest()
        random.Random(int.from_bytes(digest[:8], "big")).shuffle(shuffled)
    return shuffled


__all__ = ["ObjectOrder", "order_objects"]
