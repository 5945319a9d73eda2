"""PaliGemma and PaliGemma 2: four location tokens, then the name; objects are parted by ` ; `.

    <loc0046><loc0538><loc0795><loc1022> cat ; <loc0110><loc0000><loc1022><loc0512> cat

y1 x1 y2 x2 on 1024 bins; pixel = bin / 1024 * size. The 16 mask tokens `<seg000>` ... of the
segmentation task are stepped over and noted (`stray_value`): the box is kept, the mask is not read.
Source: google-research/big_vision, `pp/proj/paligemma`; the location tokens are listed in
transformers' `processing_paligemma` (`<loc0000>` ... `<loc1023>`, `<seg000>` ... `<seg127>`).

Nothing but `;` parts objects, and a name stands behind four tokens. So text among fewer of them is
foreign, whatever it is.

An empty answer is what PaliGemma writes where it finds nothing; it counts as `empty_output`, since
nothing tells it from an answer that failed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordeval.parsers.findings import Findings, whole_number
from coordeval.parsers.numbers import NO_GEOMETRY, TRUNCATED, Written, add_box, inner_bounds

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import ParsedRollout

_STEP = re.compile(r"<loc(\d++|[^<>;\s]{0,12}+)>|(<seg\d{1,3}+>)|(;)", re.ASCII)
_CUT_TOKEN = re.compile(r"<(?:l|lo|s|se|(?:loc|seg)[^<>;\s]{0,12}+)\Z|(?<=[>;])<\Z|(?<=; )<\Z")
_MASK = re.compile(r"<seg\d{1,3}+>", re.ASCII)
_DIGITS = 4
_BOX = 4


@dataclass(slots=True)
class _Open:
    """The record that is being read: where it began, its tokens, and where its name stands."""

    start: int
    numbers: list[int] = field(default_factory=list)
    foreign: tuple[str, int] | None = None
    count: int = 0
    name_from: int = 0

    def token(self, written: str, digits: str, end: int) -> None:
        """Take one location token."""
        if len(digits) == _DIGITS and digits.isascii() and digits.isdigit():
            self.numbers.append(whole_number(digits))
        elif self.foreign is None:
            self.foreign = (written, self.count)
        self.count += 1
        self.name_from = end

    def stray(self, written: str, end: int) -> None:
        """Take text that stands in a slot, or between two."""
        if self.foreign is None:
            self.foreign = (written, self.count)
        self.name_from = end

    @property
    def written(self) -> Written:
        """Its numbers, or what stands among them that is none."""
        if self.foreign is not None:
            return Written((), *self.foreign)
        return Written(tuple(self.numbers))


def parse_paligemma(text: str, dialect: Dialect) -> ParsedRollout:
    """Read any text; never raises, in time linear in its length."""
    found = Findings(text, dialect)
    if not text.strip():
        found.issues["empty_output"] = 1
        return found.result()
    start, end = inner_bounds(found, "<loc")
    cut = _CUT_TOKEN.search(text, start, end) if end == len(text) else None
    steps = [match for match in _STEP.finditer(text, start, end) if match[2] is None]
    if not any(match[1] is not None for match in steps):
        found.issues["truncated" if cut is not None else "no_container"] = 1
        if cut is not None:
            found.drop(cut.start(), end, TRUNCATED)
        return found.result()
    found.issues["stray_value"] += "<seg" in text
    _read(found, steps, start, end if cut is None else cut.start(), cut=cut is not None)
    if cut is not None and not found.issues["truncated"]:
        found.drop(cut.start(), len(text), TRUNCATED)
    return found.result()


def _read(found: Findings, steps: list[re.Match[str]], place: int, end: int, *, cut: bool) -> None:
    """Read records from step to step; `end` is where the text, or a token cut short, ends it."""
    text = found.text
    record: _Open | None = None
    seen = False
    for number, match in enumerate(steps):
        if match[3] is not None and record is None and not seen:
            continue  # a semicolon in prose before the first location
        name = text[record.name_from if record else place : match.start()]
        name = _without_masks(name)
        if match[3] is not None:  # a semicolon
            _close(found, record, place, match.start(), name)
            record, seen, place = None, True, match.end()
            continue
        in_row = _in_row(text, steps, number) if name.strip() else 0
        if in_row and record is not None and 0 < _BOX - record.count >= in_row:
            record.stray(name.strip(), match.start())  # a name would stand behind four
        elif record is not None and in_row:
            _close(found, record, place, match.start(), name)
            found.issues["missing_comma"] += 1
            record, seen = None, True
        elif in_row:
            if seen and in_row < _BOX:
                record = _Open(match.start() - len(name.lstrip()))
                record.stray(name.strip(), match.start())
            elif seen:
                _close(found, None, place, match.start(), name)
                found.issues["missing_comma"] += 1
            else:
                found.issues["text_before"] = 1
        if record is None:
            record = _Open(match.start())
        record.token(match.group(), match[1], match.end())
        place = match.end()
    _last(found, record, place, end, cut=cut)


def _in_row(text: str, steps: list[re.Match[str]], number: int) -> int:
    """How many location tokens stand in a row from a step on; counted up to one more than four."""
    count = 1
    while count <= _BOX and number + count < len(steps):
        match = steps[number + count]
        between = text[steps[number + count - 1].end() : match.start()]
        if match[1] is None or _without_masks(between).strip():
            break
        count += 1
    return count


def _last(found: Findings, record: _Open | None, place: int, end: int, *, cut: bool) -> None:
    """Take what follows the last location token or semicolon."""
    text = found.text
    name = _without_masks(text[record.name_from if record else place : end])
    if record is None:
        if name.strip():
            _close(found, None, place, end, name)
        else:
            found.issues["trailing_comma"] += not cut
    elif not name.strip() and (cut or end == len(text)):
        found.drop(record.start, len(text), TRUNCATED, written=record.written.known)
    else:
        _close(found, record, place, end, name)


def _close(found: Findings, record: _Open | None, place: int, end: int, name: str) -> None:
    """End a record before `end`: one with location tokens, a bare name, or nothing at all."""
    text = found.text
    until = _rstrip(text, end)
    if record is not None and record.count == _BOX - 1 and ">" in name:
        token, _, name = name.rpartition(">")  # what is left of the fourth one
        record.stray(f"{token.strip()}>", record.name_from)
    if record is not None:
        add_box(found, record.start, max(until, record.name_from), name.strip(), record.written)
    elif name.strip():
        at = end - len(text[place:end].lstrip())
        found.drop(at, until, NO_GEOMETRY, desc=name.strip())
    else:
        found.issues["trailing_comma"] += 1


def _rstrip(text: str, end: int) -> int:
    while end and text[end - 1].isspace():
        end -= 1
    return end


def _without_masks(name: str) -> str:
    return _MASK.sub("", name) if "<seg" in name else name


__all__ = ["parse_paligemma"]
