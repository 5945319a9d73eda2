"""Rollout lines by where they stand in their file, so that they can be read in any order."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from coordeval.errors import DataError
from coordeval.jsonl import MAX_LINE_BYTES, bounded_lines, load_json
from coordeval.rollout_lines import rollout_from_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from coordeval.coords import CoordFrame
    from coordeval.records import Rollout


def line_places(path: Path) -> array[int]:
    """Where in the file (bytes) each line that is not blank starts, in order.

    DataError where the file cannot be read.
    """
    places, place = array("q"), 0
    try:
        with path.open("rb") as handle:
            for _, line in bounded_lines(handle, str(path)):
                if line.strip():
                    places.append(place)
                place += len(line)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    return places


def rollouts_at(path: Path, frame: CoordFrame, places: Iterable[int]) -> Iterator[Rollout]:
    """The rollouts of the lines that start there, in that order, one at a time.

    For lines that were read and found sound before; DataError where they are no longer.
    """
    try:
        with path.open("rb") as handle:
            for place in places:
                handle.seek(place)
                yield rollout_from_json(load_json(handle.readline(MAX_LINE_BYTES)), frame)
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"{path}: changed while it was read: {error}") from None


__all__ = ["line_places", "rollouts_at"]
