"""Columns that grow while a run is read, in a few bytes per row where lists of objects take tens.

Numbers stand as machine numbers, texts as numbers of distinct texts. All of them behave as the
lists that they stand for: length, item, iteration, `extend`, `part`.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

Item = TypeVar("Item")
_NONE = -1
_WIDER = {"b": "h", "h": "i", "i": "q"}


class Numbers:
    """Rows of numbers of one machine type, one row after the other; `width` numbers each.

    `array()` looks at the rows without copying them; nothing may be added after it.
    """

    def __init__(self, dtype: DTypeLike, *, width: int | None = None) -> None:
        self._dtype = np.dtype(dtype)
        self._width = width
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes) // (self._dtype.itemsize * (self._width or 1))

    def extend(self, values: NDArray[Any] | Sequence[Any]) -> None:
        """Add rows, in the order of the values."""
        self._bytes += np.asarray(values, dtype=self._dtype).tobytes()

    def put(self, first: int, values: Sequence[Any]) -> None:
        """Replace the rows from `first` on, of a column without width."""
        np.frombuffer(self._bytes, dtype=self._dtype)[first : first + len(values)] = values

    def array(self) -> NDArray[Any]:
        """All rows, (N) or (N, width)."""
        flat = np.frombuffer(self._bytes, dtype=self._dtype)
        return flat if self._width is None else flat.reshape(-1, self._width)


def _extended(held: array[int], numbers: list[int]) -> array[int]:
    """The column with the numbers at its end, in the smallest machine type that fits all so far."""
    while True:
        try:
            added = array(held.typecode, numbers)
        except OverflowError:
            held = array(_WIDER[held.typecode], held)
        else:
            held.extend(added)
            return held


class _LikeAList(Collection[Item]):
    """A column whose rows can be asked for, equal to any column, or list, of the same rows."""

    def __contains__(self, item: object) -> bool:
        return any(row == item for row in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _LikeAList | list):
            return NotImplemented
        return len(self) == len(other) and all(
            mine == theirs for mine, theirs in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # as a list has none


class Whole(_LikeAList[Any]):
    """Whole numbers, None among them where `optional` (numbers are then >= 0)."""

    def __init__(self, *, optional: bool = False) -> None:
        self._held = array("b")
        self._optional = optional

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, row: int) -> Any:
        value = self._held[row]
        return None if self._optional and value == _NONE else value

    def __iter__(self) -> Iterator[Any]:
        return iter(self.part(0, len(self)))

    def append(self, value: int | None) -> None:
        """Add one."""
        self.extend((value,))

    def extend(self, values: Iterable[int | None]) -> None:
        """Add several."""
        numbers = [_NONE if value is None else value for value in values]
        self._held = _extended(self._held, numbers)

    def part(self, first: int, last: int) -> list[Any]:
        """The rows `first` to `last` (excluded) as Python numbers."""
        plain = self._held[first:last].tolist()
        if not self._optional:
            return plain
        return [None if value == _NONE else value for value in plain]

    def array(self) -> NDArray[np.int64]:
        """All rows, -1 for None."""
        return np.asarray(self._held, dtype=np.int64)


class Texts(_LikeAList["str | None"]):
    """Texts or None; each distinct text is held once."""

    def __init__(self) -> None:
        self._codes = array("b")
        self._code_of: dict[str | None, int] = {None: 0}
        self._texts: list[str | None] = [None]

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, row: int) -> str | None:
        return self._texts[self._codes[row]]

    def __iter__(self) -> Iterator[str | None]:
        return map(self._texts.__getitem__, self._codes)

    def append(self, text: str | None) -> None:
        """Add one."""
        self.extend((text,))

    def extend(self, texts: Iterable[str | None]) -> None:
        """Add several."""
        code_of, codes = self._code_of, []
        for text in texts:
            code = code_of.get(text)
            if code is None:
                code = code_of[text] = len(self._texts)
                self._texts.append(text)
            codes.append(code)
        self._codes = _extended(self._codes, codes)

    def part(self, first: int, last: int) -> list[str | None]:
        """The rows `first` to `last` (excluded)."""
        return [self._texts[code] for code in self._codes[first:last]]

    def count(self, text: str | None) -> int:
        """How often a text stands there."""
        code = self._code_of.get(text)
        return 0 if code is None else self._codes.count(code)

    def distinct(self) -> list[str]:
        """Every text once, in the order of coming."""
        return [text for text in self._texts if text is not None]


class Values(_LikeAList["tuple[int, ...] | None"]):
    """Tuples of whole numbers, or None, of any length and size.

    They have eight bytes at most: parsers read nothing larger than 10^9.
    """

    def __init__(self) -> None:
        self._lengths = array("b")
        self._flat = array("b")
        self._starts: array[int] | None = None

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, row: int) -> tuple[int, ...] | None:
        if row < 0:
            row += len(self)
        return self.part(row, row + 1)[0] if row < len(self) else self._out_of_range(row)

    def __iter__(self) -> Iterator[tuple[int, ...] | None]:
        for first in range(0, len(self), 4096):
            yield from self.part(first, min(first + 4096, len(self)))

    def append(self, values: tuple[int, ...] | None) -> None:
        """Add one."""
        self.extend((values,))

    def extend(self, rows: Iterable[tuple[int, ...] | None]) -> None:
        """Add several."""
        self._starts = None
        rows = list(rows)
        self._flat = _extended(self._flat, list(chain.from_iterable(filter(None, rows))))
        lengths = [_NONE if values is None else len(values) for values in rows]
        self._lengths = _extended(self._lengths, lengths)

    def part(self, first: int, last: int) -> list[tuple[int, ...] | None]:
        """The rows `first` to `last` (excluded)."""
        if last <= first:
            return []
        if self._starts is None:
            self._starts = array(
                "q", accumulate((max(length, 0) for length in self._lengths), initial=0)
            )
        base = self._starts[first]
        flat = self._flat[base : self._starts[last]].tolist()
        out: list[tuple[int, ...] | None] = []
        for row in range(first, last):
            start = self._starts[row] - base
            length = self._lengths[row]
            out.append(None if length == _NONE else tuple(flat[start : start + length]))
        return out

    def any_known(self) -> bool:
        """Whether any row is not None."""
        return self._lengths.count(_NONE) < len(self)

    def _out_of_range(self, row: int) -> tuple[int, ...] | None:
        raise IndexError(f"row {row} of {len(self)}")


__all__ = ["Numbers", "Texts", "Values", "Whole"]
