"""The prefix target: the rollout as the model wrote it, what it missed, and a proper end.

The model's own tokens are kept up to its last whole record. Where something has to stand behind
that, the punctuation that closes the record is tokenised anew together with it, so that it is
written as such a text is always written: `]},` where the answer goes on, not `]}` and `,`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from coordeval.data.canonical import render_record
from coordeval.records import FoundRecord
from coordeval.training.stage2.reading import record_tokens
from coordeval.training.stage2.taught import Part, Taught, taught
from coordeval.training.stage2.token_text import TokenText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.parsers.dialects import Dialect
    from coordeval.training.stage2.judged import Found, Judged, TrueObjects
    from coordeval.training.stage2.overlap import BinObject
    from coordeval.training.stage2.reading import ReadRollout
    from coordeval.training.stage2.target_context import TargetContext

_CLOSED_BY = {"[": "]", "{": "}"}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)', re.DOTALL)
_MAP_KEY = re.compile(r'"object_(\d{1,9})"[ \t\n\r]*+:[ \t\n\r]*+\Z')


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixTarget:
    """What is taught, how many tokens are the model's own, and what could not be taught.

    `kept` tokens stand as the rollout has them. `unmatchable_slots` and `unusual` as in
    `TargetCounts`.
    """

    taught: Taught
    kept: int
    unmatchable_slots: int
    unusual: int


class _Extended(NamedTuple):
    """The text of a target: `text[:prefix_end]` is the rollout's, then come `added` and the end."""

    written: TokenText
    kept: int
    prefix_end: int
    widths: tuple[int, ...]


class _OwnParts(NamedTuple):
    parts: list[Part]
    unmatchable_slots: int
    unusual: int


def prefix_target(
    reading: ReadRollout,
    judged: Judged,
    truth: TrueObjects,
    context: TargetContext,
    *,
    multiplier: float,
) -> PrefixTarget:
    """The target of a readable rollout; false positives and dropped records in it are not taught.

    Behind the last whole record everything is cut, be it a broken record, the closing of the
    container or prose; lists that stand open around records are closed there. A rollout without
    misses whose own closing is the one it needs keeps it. The opening of the container, and
    separators, are taught where they are canonical, separators with the record behind them.
    `multiplier` weighs the structure of missed objects and what closes.
    """
    missed = [truth.written[index] for index in judged.missed]
    extended = _extended(reading, missed, context)
    own = _own_parts(reading, judged.found, extended, context)
    weights = context.config.tokens
    added = []
    place = extended.prefix_end
    for obj, width in zip(missed, extended.widths, strict=True):
        added.append(_added_part(extended.written, place, place + width, obj, context))
        place += width
    added = [replace(part, struct=part.struct * multiplier) for part in added]
    closing = weights.closing * multiplier
    end = Part(start=place, end=len(extended.written.text), struct=closing)
    return PrefixTarget(
        taught=taught(extended.written, [*own.parts, *added, end], context, end_weight=closing),
        kept=extended.kept,
        unmatchable_slots=own.unmatchable_slots,
        unusual=own.unusual,
    )


def opening_text(dialect: Dialect) -> str:
    """What opens a container, canonically."""
    return '{"objects": [' if dialect.container == "list" else "{"


def closing_text(dialect: Dialect) -> str:
    """What closes a container, canonically."""
    return "]}" if dialect.container == "list" else "}"


def lead_text(dialect: Dialect, place: int, number: int) -> str:
    """What stands before the record at a place (0-based); in a map it has a number."""
    separator = ", " if place else ""
    return separator + (f'"object_{number}": ' if dialect.container == "map" else "")


def _extended(
    reading: ReadRollout, missed: Sequence[BinObject], context: TargetContext
) -> _Extended:
    own, dialect = reading.written, context.dialect
    last = reading.whole[-1] if reading.whole else None
    prefix_end = last.end if last is not None else reading.inside
    closing = closing_text(dialect)
    left_open = left_open_text(reading)
    if not missed:
        closing = left_open + closing
    if not missed and own.text.startswith(closing, prefix_end):
        cut = own.cut_before(prefix_end + len(closing))
        if cut.char == prefix_end + len(closing):
            written = TokenText(own.token_ids[: cut.token], context.table)
            return _Extended(written, cut.token, prefix_end, ())
    number = next_number(reading)
    added = [
        lead_text(dialect, len(reading.whole) + step, number + step)
        + render_record(obj.desc, obj.kind, obj.bins, dialect)
        for step, obj in enumerate(missed)
    ]
    if added:
        added[0] = left_open + added[0]
    cut = own.cut_before_punctuation(prefix_end, not_before=last.start if last is not None else 0)
    anew = context.tokenise(own.text[cut.char : prefix_end] + "".join(added) + closing)
    written = TokenText([*own.token_ids[: cut.token], *anew], context.table)
    # A tokenizer may write a description in another normal form, so pieces are measured as written.
    widths = tuple(_written_width(piece, context) for piece in added)
    prefix_end = len(written.text) - sum(widths) - len(closing)
    return _Extended(written, cut.token, prefix_end, widths)


def left_open_text(reading: ReadRollout) -> str:
    """What closes the lists and objects that stand open between whole records, as in `[[{...}`."""
    ends = [reading.inside, *(record.end for record in reading.whole)]
    between = zip(ends, (record.start for record in reading.whole), strict=False)
    closers: list[str] = []
    for start, end in between:
        for sign in _STRING.sub("", reading.written.text[start:end]):
            if sign in _CLOSED_BY:
                closers.append(_CLOSED_BY[sign])
            elif closers and sign == closers[-1]:
                closers.pop()
    return "".join(reversed(closers))


def next_number(reading: ReadRollout) -> int:
    """The number of the entry of a map that comes behind all whole records."""
    text = reading.written.text
    keys = (_MAP_KEY.search(text, 0, record.start) for record in reading.whole)
    return 1 + max([len(reading.whole), *(int(key.group(1)) for key in keys if key is not None)])


def _written_width(piece: str, context: TargetContext) -> int:
    if piece.isascii():
        return len(piece)
    return len(TokenText(context.tokenise(piece), context.table).text)


def _added_part(
    written: TokenText, start: int, end: int, obj: BinObject, context: TargetContext
) -> Part:
    record = FoundRecord(written.text.index("{", start), end, obj.desc, obj.kind, obj.bins)
    tokens = record_tokens(written, record, table=context.table, dialect=context.dialect)
    return Part(
        start=start,
        end=end,
        struct=context.config.tokens.missed_struct,
        desc=context.config.tokens.missed_desc,
        description=tokens.description,
        slots=tokens.slots,
        bins=obj.bins,
        is_box=obj.kind == "bbox_2d",
    )


def _own_parts(
    reading: ReadRollout, found: Sequence[Found], extended: _Extended, context: TargetContext
) -> _OwnParts:
    """What of the rollout's own text is taught: its opening, and its matched records."""
    text, dialect = extended.written.text, context.dialect
    out = _OwnParts([], 0, 0)
    if text[: reading.inside] == opening_text(dialect):
        struct = context.config.tokens.matched_struct
        out.parts.append(Part(start=0, end=reading.inside, struct=struct))
    matched = {one.record.start: one for one in found if one.true_index is not None}
    end_before = reading.inside
    for place, record in enumerate(reading.whole):
        is_last = place == len(reading.whole) - 1
        end = extended.prefix_end if is_last else record.end
        one = matched.get(record.start)
        if one is not None:
            lead = lead_text(dialect, place, place + 1)
            start = end_before if text[end_before : record.start] == lead else record.start
            part, slots_fit, usual = _own_part(extended.written, start, end, one, context)
            out.parts.append(part)
            out = out._replace(
                unmatchable_slots=out.unmatchable_slots + (not slots_fit),
                unusual=out.unusual + (not usual),
            )
        end_before = end
    return out


def _own_part(
    written: TokenText, start: int, end: int, found: Found, context: TargetContext
) -> tuple[Part, bool, bool]:
    """A matched record, whether its coordinates can be taught, and whether it is canonical."""
    record = found.record._replace(end=end)
    assert record.desc is not None
    assert record.kind is not None
    assert record.values is not None
    tokens = record_tokens(written, record, table=context.table, dialect=context.dialect)
    canonical = render_record(record.desc, record.kind, record.values, context.dialect)
    usual = written.text[record.start : end] == canonical
    slots_fit = found.labels is not None and bool(tokens.slots)
    # Another kind has another key, and coordinates that are spelled out are no coordinate tokens.
    structure_fits = usual and found.same_kind and bool(tokens.slots)
    weights = context.config.tokens
    part = Part(
        start=start,
        end=end,
        struct=weights.matched_struct if structure_fits else 0.0,
        desc=weights.matched_desc if structure_fits else 0.0,
        description=tokens.description,
        true_desc=found.true_desc,
        slots=tokens.slots if slots_fit else (),
        bins=found.labels or () if slots_fit else (),
        is_box=record.kind == "bbox_2d",
    )
    return part, slots_fit, usual


__all__ = [
    "PrefixTarget",
    "closing_text",
    "lead_text",
    "left_open_text",
    "next_number",
    "opening_text",
    "prefix_target",
]
