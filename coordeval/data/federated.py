"""What a federated dataset (LVIS) says of images and classes: read, and written to lines.

LVIS images carry `neg_category_ids` and `not_exhaustive_category_ids`. The same two keys stand in
the metadata of JSONL records and in rollout lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.errors import DataError
from coordeval.quoting import shown
from coordeval.records import FREQUENCIES, FederatedLabels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordeval.records import Frequency

NEGATIVE, NOT_EXHAUSTIVE = "neg_category_ids", "not_exhaustive_category_ids"


def read_federated(raw: Mapping[str, Any]) -> FederatedLabels | None:
    """The two lists of an image, record or line; None where it has neither.

    Raises DataError without the place for one list without the other, and for anything but lists
    of category ids.
    """
    held = [key for key in (NEGATIVE, NOT_EXHAUSTIVE) if raw.get(key) is not None]
    if not held:
        return None
    if len(held) == 1:
        other = NOT_EXHAUSTIVE if held == [NEGATIVE] else NEGATIVE
        raise DataError(f"has {held[0]!r} but no {other!r}; a federated image needs both lists")
    return FederatedLabels(
        negative_ids=_ids(raw, NEGATIVE), not_exhaustive_ids=_ids(raw, NOT_EXHAUSTIVE)
    )


def _ids(raw: Mapping[str, Any], key: str) -> tuple[int, ...]:
    value = raw[key]
    if not isinstance(value, list) or not all(
        isinstance(item, int) and not isinstance(item, bool) for item in value
    ):
        raise DataError(f"{key!r} must be a list of category ids")
    return tuple(sorted(set(value)))


def read_frequency(raw: Mapping[str, Any]) -> Frequency | None:
    """A class's `frequency`: r, c or f, None where it says none; DataError for anything else."""
    value = raw.get("frequency")
    for known in FREQUENCIES:
        if value == known:
            return known
    if value is None:
        return None
    raise DataError(f"'frequency' must be r, c or f (as in LVIS), not {shown(str(value), 40)}")


def write_federated(labels: FederatedLabels | None) -> dict[str, list[int]]:
    """The two keys of a line; empty for None."""
    if labels is None:
        return {}
    return {
        NEGATIVE: list(labels.negative_ids),
        NOT_EXHAUSTIVE: list(labels.not_exhaustive_ids),
    }


__all__ = ["NEGATIVE", "NOT_EXHAUSTIVE", "read_federated", "read_frequency", "write_federated"]
