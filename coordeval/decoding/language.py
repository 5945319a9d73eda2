"""What may be written, as expressions: the whole answer (grammar), or geometry lists only (coords).

A language is asked twice: for its `start`, and, whenever a coordinate has been written, for what
comes `after` it. Whatever depends on numbers (how many records there were, whether a polygon may
close) reaches it as a `Turn`, so that its expressions need neither count nor calculate.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from coordeval.decoding.descriptions import closed_description, open_description
from coordeval.decoding.expressions import (
    EMPTY,
    End,
    Expr,
    OneOf,
    Only,
    Slot,
    SlotMark,
    Star,
    alt,
    optional,
    seq,
)
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from coordeval.decoding.settings import ConstraintSettings
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GeometryKind

LEAST_VALUES: dict[GeometryKind, int] = {"bbox_2d": 4, "poly": 6, "line": 4}


class Turn(NamedTuple):
    """How an answer may go on after the last coordinate that a list needs.

    `close` and `go_on`: the list may end, and may have another point. `kinds`: the geometries of
    which a next record may be, none where no record may follow. `number`: records so far, this one
    included, where keys are numbered (else 0).
    """

    close: bool
    go_on: bool
    kinds: tuple[GeometryKind, ...] = ()
    number: int = 0


class Language(Protocol):
    """Expressions of what may be written.

    `free_text`: whatever is accepted may also hold special tokens. `numbered`: a `Turn` needs
    the number of records.
    """

    free_text: bool
    numbered: bool

    def start(self) -> Expr:
        """The whole of what may be written, up to the first coordinate."""
        ...

    def after(self, mark: SlotMark, turn: Turn) -> Expr:
        """What may follow a coordinate at `mark`, up to the next one."""
        ...


def next_mark(mark: SlotMark) -> SlotMark:
    """The place behind `mark`; the last point's places are those of every further point."""
    position = mark.position + 1
    least = LEAST_VALUES[mark.kind]
    return SlotMark(mark.kind, position if position < least else least - 2)


def may_end_at(mark: SlotMark) -> bool:
    """True where the coordinate at `mark` completes the least that its geometry needs, or more."""
    return mark.position == LEAST_VALUES[mark.kind] - 1


class GrammarLanguage:
    """A whole answer in one dialect, and nothing else."""

    free_text = False

    def __init__(self, settings: ConstraintSettings, dialect: Dialect) -> None:
        spaced = settings.separators == "spaced"
        self._comma = ", " if spaced else ","
        self._colon = ": " if spaced else ":"
        self._kinds = settings.geometries
        self._is_map = dialect.container == "map"
        self._desc_first = dialect.field_order == "desc_first"
        self._quote = '"' if dialect.coordinates == "quoted_token" else ""
        names = settings.class_names
        self._desc = open_description() if names is None else closed_description(names)
        # Behind a description, every number would need its own copy of the whole class list.
        self.numbered = self._is_map and self._desc_first
        # Shared expressions are shared states, however they are reached.
        self._body_of = lru_cache(maxsize=None)(self._body)
        self._tail_of = lru_cache(maxsize=64)(self._tail)

    def start(self) -> Expr:
        """The opening of the container and the first record, or an empty container."""
        head, foot = ("{", "}") if self._is_map else ('{"objects"' + self._colon + "[", "]}")
        return seq(head, alt(seq(foot, End()), self._record(1, self._kinds)))

    def after(self, mark: SlotMark, turn: Turn) -> Expr:
        """The next coordinate, or the end of the list and what may stand behind it."""
        go_on = seq(self._quote + self._comma, self._coordinate(next_mark(mark)))
        if not may_end_at(mark):
            return go_on
        options: list[Expr] = []
        if turn.go_on:
            options.append(go_on)
        if turn.close:
            field = "" if self._desc_first else self._comma + '"desc"' + self._colon
            desc = EMPTY if self._desc_first else self._desc
            tail = self._tail_of(turn.number, turn.kinds)
            options.append(seq(self._quote + "]" + field, desc, "}", tail))
        return alt(*options)

    def _tail(self, number: int, kinds: tuple[GeometryKind, ...]) -> Expr:
        end = seq("}" if self._is_map else "]}", End())
        if not kinds:
            return end
        return alt(end, seq(self._comma, self._record(number + 1, kinds)))

    def _record(self, number: int, kinds: tuple[GeometryKind, ...]) -> Expr:
        if not self._is_map:
            return self._body_of(kinds)
        if self.numbered:
            return seq(f'"object_{number}"{self._colon}', self._body_of(kinds))
        digit = OneOf(((0x30, 0x39),))
        digits: Expr = EMPTY
        for _ in range(8):  # the reader knows numbers of at most nine digits
            digits = optional(seq(digit, digits))
        any_number = seq(OneOf(((0x31, 0x39),)), digits)
        return seq('"object_', any_number, '"' + self._colon, self._body_of(kinds))

    def _body(self, kinds: tuple[GeometryKind, ...]) -> Expr:
        geometry = alt(
            *(seq(f'"{kind}"{self._colon}[', self._coordinate(SlotMark(kind, 0))) for kind in kinds)
        )
        if not self._desc_first:
            return seq("{", geometry)
        return seq('{"desc"' + self._colon, self._desc, self._comma, geometry)

    def _coordinate(self, mark: SlotMark) -> Expr:
        return seq(self._quote, Slot(mark))


_SPACE = OneOf(((0x20, 0x20), (0x09, 0x0A), (0x0D, 0x0D)))
_LONGEST_INDENT = 16


class CoordsLanguage:
    """Any text; but what stands in a geometry list is coordinates and their separators.

    A list is whatever follows the key of a geometry (with any JSON escape of its letters), a colon
    and `[`, wherever that stands: inside a string too, because a quote that was never closed
    earlier must not hide a list from which the reader takes a record.
    """

    free_text = True
    numbered = False

    def __init__(self, settings: ConstraintSettings, dialect: Dialect) -> None:
        self._quote = '"' if dialect.coordinates == "quoted_token" else ""
        indent: Expr = EMPTY
        for _ in range(_LONGEST_INDENT):
            indent = optional(seq(OneOf(((0x20, 0x20), (0x09, 0x09))), indent))
        # Bounded, so that a model that wants something else cannot write spaces forever.
        self._gap = alt(EMPTY, " ", seq(optional("\r"), "\n", indent))
        lists = [
            seq(
                '"',
                *(alt(letter, _escaped(letter)) for letter in kind),
                '"',
                Star(_SPACE),
                ":",
                Star(_SPACE),
                "[",
                Only(seq(self._gap, self._coordinate(SlotMark(kind, 0)))),
            )
            for kind in settings.geometries
        ]
        self._free = seq(Star(OneOf(((0x00, 0xFF),))), alt(End(), *lists))

    def start(self) -> Expr:
        """Any text up to the opening of a list."""
        return self._free

    def after(self, mark: SlotMark, turn: Turn) -> Expr:
        """The next coordinate, or the end of the list and any text."""
        go_on = seq(self._quote, ",", self._gap, self._coordinate(next_mark(mark)))
        if not may_end_at(mark):
            return go_on
        close = seq(self._quote, self._gap, "]", self._free)
        options = ([go_on] if turn.go_on else []) + ([close] if turn.close else [])
        return alt(*options)

    def _coordinate(self, mark: SlotMark) -> Expr:
        return seq(self._quote, Slot(mark))


def _escaped(letter: str) -> Expr:
    digits = f"{ord(letter):04x}"
    return seq("\\u", *(alt(digit, digit.upper()) for digit in digits))


def require_constrainable(dialect: Dialect, settings: ConstraintSettings) -> None:
    """Refuse a constraint in dialects that write integers, with a ConfigError."""
    if settings.mode != "none" and dialect.coordinates not in {"token", "quoted_token"}:
        raise ConfigError(
            f"--constrain {settings.mode} needs a dialect with coordinate tokens, and "
            f"{dialect.name} writes numbers: use --constrain none, or a dialect of tokens"
        )


def language_of(settings: ConstraintSettings, dialect: Dialect) -> Language:
    """The language of the settings in a dialect.

    Raises ConfigError for dialects that write integers: their digits are ordinary text.
    """
    require_constrainable(dialect, settings)
    if settings.mode == "grammar":
        return GrammarLanguage(settings, dialect)
    return CoordsLanguage(settings, dialect)


__all__ = [
    "LEAST_VALUES",
    "CoordsLanguage",
    "GrammarLanguage",
    "Language",
    "Turn",
    "language_of",
    "may_end_at",
    "next_mark",
    "require_constrainable",
]
