"""When two rollouts of an id have the same ground truth: one answer for every command."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordeval.records import GroundTruthObject, Rollout


def truth_digest(rollout: Rollout) -> bytes:
    """A digest of what makes ground truths the same: size, objects in any order, judged classes.

    Objects are the same where name, kind, coordinates (to 1e-4 pixels), crowd mark and annotated
    area (to 0.01) are. No objects have a digest as well.
    """
    objects = sorted(_comparable(obj) for obj in rollout.gt)
    whole = rollout.width, rollout.height, objects, rollout.federated
    return blake2b(repr(whole).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _comparable(obj: GroundTruthObject) -> tuple[object, ...]:
    # Rounded, so that a file that was written with six decimals is still the same ground truth.
    # Equal numbers have one form: floats, and no -0.0.
    values = tuple(round(float(value), 4) + 0.0 for value in obj.values_px)
    area = -1.0 if obj.area is None else round(float(obj.area), 2) + 0.0
    return obj.desc, obj.kind, values, bool(obj.iscrowd), area


__all__ = ["truth_digest"]
