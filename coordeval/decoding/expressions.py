"""A small algebra of regular expressions over bytes, with places for coordinate tokens.

Expressions are compared by identity: the automaton hashes them as parts of its states.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coordeval.records import GeometryKind


class SlotMark(NamedTuple):
    """A coordinate's place: the geometry, and the position in its list.

    Positions behind the least number of points repeat: the last two of them stand for every
    further point.
    """

    kind: GeometryKind
    position: int


@dataclass(frozen=True, slots=True, eq=False)
class Bytes:
    """Exactly these bytes; none is the empty word."""

    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class OneOf:
    """One byte out of inclusive ranges."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """One code point out of inclusive ranges (without surrogates), in UTF-8."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A node of a tree of words; `final` where a word ends."""

    children: Mapping[int, Branch]
    final: bool


@dataclass(frozen=True, slots=True, eq=False)
class Seq:
    """One after the other."""

    parts: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Alt:
    """One of several."""

    options: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Star:
    """Any number of times, none included."""

    inner: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """A coordinate token; what follows it is asked of the language when it is written."""

    mark: SlotMark


@dataclass(frozen=True, slots=True, eq=False)
class Only:
    """As `inner`; wherever it has begun, no other reading of the text is followed any more."""

    inner: Expr


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """The answer may end here."""


Expr = Bytes | OneOf | Points | Branch | Seq | Alt | Star | Slot | Only | End
EMPTY = Bytes(b"")


def seq(*parts: Expr | str) -> Expr:
    """Parts one after the other; a string stands for its UTF-8 bytes."""
    return Seq(tuple(Bytes(part.encode()) if isinstance(part, str) else part for part in parts))


def alt(*options: Expr | str) -> Expr:
    """One of the options; a string stands for its UTF-8 bytes."""
    return Alt(tuple(Bytes(one.encode()) if isinstance(one, str) else one for one in options))


def optional(inner: Expr | str) -> Expr:
    """The inner expression or nothing."""
    return alt(EMPTY, inner)


def words(names: Iterable[bytes]) -> Expr:
    """One of the given words, as a tree, so that a thousand of them cost one step per byte."""
    root: dict[int, object] = {}
    finals: set[int] = set()
    for name in names:
        node = root
        for byte in name:
            node = node.setdefault(byte, {})  # type: ignore[assignment]
        finals.add(id(node))

    def build(node: dict[int, object]) -> Branch:
        # Built from the leaves up without recursion: names may be longer than the stack is deep.
        order: list[dict[int, object]] = [node]
        for one in order:
            order.extend(one.values())  # type: ignore[arg-type]
        built: dict[int, Branch] = {}
        for one in reversed(order):
            children = {byte: built[id(child)] for byte, child in one.items()}
            built[id(one)] = Branch(children, id(one) in finals)
        return built[id(node)]

    return build(root)


_UTF8_LENGTHS = ((0x00, 0x7F, 1), (0x80, 0x7FF, 2), (0x800, 0xFFFF, 3), (0x10000, 0x10FFFF, 4))


@lru_cache(maxsize=64)
def in_utf8(points: Points) -> Expr:
    """The same as sequences of bytes."""
    options: list[Expr] = []
    for low, high in points.ranges:
        for first, last, length in _UTF8_LENGTHS:
            start, stop = max(low, first), min(high, last)
            if start > stop:
                continue
            lead = {1: 0x00, 2: 0xC0, 3: 0xE0, 4: 0xF0}[length]
            for digits in _digit_ranges(start, stop, length, 64):
                bounds = [(lead + digits[0][0], lead + digits[0][1])]
                bounds += [(0x80 + a, 0x80 + b) for a, b in digits[1:]]
                options.append(Seq(tuple(OneOf((bound,)) for bound in bounds)))
    return Alt(tuple(options))


def hex_numbers(ranges: Iterable[tuple[int, int]]) -> Expr:
    r"""Four hexadecimal digits, in either case, of a number out of inclusive ranges."""
    return Alt(
        tuple(
            Seq(tuple(OneOf(_hex_bytes(a, b)) for a, b in digits))
            for low, high in ranges
            for digits in _digit_ranges(low, high, 4, 16)
        )
    )


def _hex_bytes(low: int, high: int) -> tuple[tuple[int, int], ...]:
    ranges = [(0x30 + low, 0x30 + min(high, 9))] if low <= 9 else []
    if high >= 10:
        ranges += [(letter + max(low, 10) - 10, letter + high - 10) for letter in (0x41, 0x61)]
    return tuple(ranges)


def _digit_ranges(low: int, high: int, length: int, base: int) -> list[tuple[tuple[int, int], ...]]:
    """Numbers low..high as products of ranges of digits, most significant digit first."""
    if length == 1:
        return [((low, high),)]
    unit = base ** (length - 1)
    first, last = low // unit, high // unit
    if first == last:
        rest = _digit_ranges(low % unit, high % unit, length - 1, base)
        return [((first, first), *tail) for tail in rest]
    out: list[tuple[tuple[int, int], ...]] = []
    if low % unit:
        out += [
            ((first, first), *tail)
            for tail in _digit_ranges(low % unit, unit - 1, length - 1, base)
        ]
        first += 1
    upper = high % unit
    full_last = last if upper == unit - 1 else last - 1
    if first <= full_last:
        out.append(((first, full_last), *([(0, base - 1)] * (length - 1))))
    if full_last < last:
        out += [((last, last), *tail) for tail in _digit_ranges(0, upper, length - 1, base)]
    return out


__all__ = [
    "EMPTY",
    "Alt",
    "Branch",
    "Bytes",
    "End",
    "Expr",
    "OneOf",
    "Only",
    "Points",
    "Seq",
    "Slot",
    "SlotMark",
    "Star",
    "alt",
    "hex_numbers",
    "in_utf8",
    "optional",
    "seq",
    "words",
]
