"""Whether two runs have the same ground truth for an image: a digest to compare, 16 bytes each."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordeval.records import GroundTruthObject, Rollout


def truth_digest(rollout: Rollout) -> bytes:
    """A digest of what makes ground truths the same: size, objects in any order, judged classes.

    Coordinates count to 1e-4 pixels and areas to 0.01, so that a file that was written with six
    decimals still holds the same ground truth.
    """
    objects = sorted(_comparable(obj) for obj in rollout.gt)
    whole = rollout.width, rollout.height, objects, rollout.federated
    return blake2b(repr(whole).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _comparable(obj: GroundTruthObject) -> tuple[object, ...]:
    # Equal numbers have one form: floats, and no -0.0.
    values = tuple(round(float(value), 4) + 0.0 for value in obj.values_px)
    area = -1.0 if obj.area is None else round(float(obj.area), 2) + 0.0
    return obj.desc, obj.kind, values, bool(obj.iscrowd), area


__all__ = ["truth_digest"]
