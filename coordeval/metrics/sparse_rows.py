"""Rows of long arrays that hold one value nearly everywhere, of which only the rest is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class SparseRows:
    """Rows (T, N) that are `fill` but in a few places; indexing a row gives it whole (N)."""

    def __init__(self, fill: int) -> None:
        self._fill = fill
        self._rows: list[tuple[NDArray[np.int32], NDArray[Any]]] = []

    def append(self, row: NDArray[Any]) -> None:
        """Add one row (N), all of one length and type."""
        self._length, self._dtype = len(row), row.dtype
        places = np.flatnonzero(row != self._fill).astype(np.int32)
        held = row[places]
        narrow = held.astype(np.int32) if held.dtype == np.int64 else held
        self._rows.append((places, narrow))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> NDArray[Any]:
        places, values = self._rows[row]
        out = np.full(self._length, self._fill, dtype=self._dtype)
        out[places] = values
        return out

    def places(self, row: int) -> NDArray[np.int32]:
        """Where one row is not `fill`, in rising order."""
        return self._rows[row][0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseRows):
            return NotImplemented
        return len(self) == len(other) and all(
            np.array_equal(mine, theirs) for mine, theirs in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # as an array has none

    def count(self) -> NDArray[np.int64]:
        """In how many rows each place (N) is not `fill`."""
        out = np.zeros(self._length, dtype=np.int64)
        for places, _ in self._rows:
            out[places] += 1
        return out


__all__ = ["SparseRows"]
