"""Rex-Omni: phrases and boxes between special tokens, every coordinate a token `<0>` ... `<999>`.

    <|object_ref_start|>cat<|object_ref_end|><|box_start|><12><34><56><78>,<1><2><3><4><|box_end|>,
    <|object_ref_start|>dog<|object_ref_end|><|box_start|>None<|box_end|>

x1 y1 x2 y2; pixel = bin / 999 * size; several boxes a phrase, `None` for what is not there; six
numbers or more, an even count, are a polygon (OCR writes quadrilaterals). What follows an end token
is not read. Source: IDEA-Research,
Rex-Omni (arXiv 2510.12798): the documented output of `rex_omni` and its training templates.

A record is one box. The first one of a phrase spans from the phrase's opening token, the others
their own numbers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordeval.parsers.findings import Findings, whole_number
from coordeval.parsers.numbers import END_OF_ANSWER, NO_GEOMETRY, TRUNCATED, Written, add_box
from coordeval.parsers.reasons import MALFORMED_RECORD
from coordeval.parsers.surroundings import FENCE

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GeometryKind, ParsedRollout

_MARK = re.compile(r"<\|(object_ref_start|object_ref_end|box_start|box_end)\|>")
_PIECE = re.compile(r"<([^<>,\s]{0,40})>|([^<>\s]++|[<>])")
_CUT_MARK = re.compile(r"<(?:\|(?:[a-z_]{1,16}+\|?+)?+)?+\Z")
_BEGUN_MARK = re.compile(r"(?:\A|(?<=[\s.,:]))<\|(?:o|b)[a-z_]*+\|?+\Z")
_NOTHING = "None"
# What may stand before which marker; `box_start` may stand anywhere, a missing phrase is a drop.
_PAIRS = {("object_ref_end", "object_ref_start"), ("box_end", "box_start")} | {
    ("box_start", state)
    for state in ("", "object_ref_start", "object_ref_end", "box_start", "box_end")
}


def parse_rex_omni(text: str, dialect: Dialect) -> ParsedRollout:
    """Read any text; never raises, in time linear in its length."""
    found = Findings(text, dialect)
    if not text.strip():
        found.issues["empty_output"] = 1
        return found.result()
    ending = END_OF_ANSWER.search(text)
    end = len(text) if ending is None else ending.start()
    if _MARK.search(text, 0, end) is not None:
        _Reader(found, end).read()
    elif (begun := _BEGUN_MARK.search(text)) is not None and end == len(text):
        found.issues["text_before"] += bool(text[: begun.start()].strip())
        found.drop(begun.start(), end, TRUNCATED)
    else:
        found.issues["no_container"] = 1
    return found.result()


class _Reader:
    """Walks from marker to marker, up to `end`; what it holds is the phrase that is open."""

    def __init__(self, found: Findings, end: int) -> None:
        self.found = found
        self.end = end
        self.is_ended = end < len(found.text)
        self.phrase_at: int | None = None
        self.desc: str | None = None
        self.broken = False

    def read(self) -> None:
        text = self.found.text
        marks = list(_MARK.finditer(text, 0, self.end))
        for number, mark in enumerate(marks):
            previous = marks[number - 1] if number else None
            between = (previous.end() if previous else 0, mark.start())
            self._step(previous.group(1) if previous else "", between, mark)
        last = marks[-1]
        self._end(last.group(1), last.end())

    def _step(self, state: str, between: tuple[int, int], mark: re.Match[str]) -> None:
        """Take the text between two markers, and the second one."""
        kind = mark.group(1)
        if state == "object_ref_start":
            self.desc = self.found.text[slice(*between)]
            self.broken = kind != "object_ref_end"
        elif state == "box_start":
            self._boxes(*between, closed=kind == "box_end")
        else:
            self._outside(state, between, before_phrase=kind == "object_ref_start")
        if kind == "object_ref_start":
            self._close_phrase(mark.start())
            self.phrase_at = mark.start()
        elif (kind, state) not in _PAIRS:
            self.found.issues["stray_value"] += 1

    def _end(self, state: str, place: int) -> None:
        """Take what follows the last marker."""
        found, size = self.found, self.end
        found.issues["text_after"] += self.is_ended
        rest = self._without_fence(found.text[place:size])
        if state == "object_ref_start" and not self.is_ended:
            found.drop(self.phrase_at or 0, size, TRUNCATED, desc=None)
            return
        if state == "box_start":
            self._boxes(place, size, closed=False)
            return
        if state == "object_ref_start":
            self.desc, self.broken, place, rest = rest, True, size, ""
        cut = None if self.is_ended else _CUT_MARK.search(rest)
        waits = self.phrase_at is not None and not rest.strip() and not self.is_ended
        if cut is not None or waits:
            begun = place + cut.start() if cut is not None else place
            at = self.phrase_at if self.phrase_at is not None else begun
            found.drop(at, size, TRUNCATED, desc=self.desc)
            return
        self._close_phrase(place)
        found.issues["trailing_comma"] += rest.strip() == ","
        found.issues["text_after"] += bool(rest.strip().strip(","))

    def _close_phrase(self, end: int) -> None:
        """The open phrase ends without boxes."""
        if self.phrase_at is None:
            return
        drop = (MALFORMED_RECORD, "missing_marker", None, None) if self.broken else NO_GEOMETRY
        self.found.drop(self.phrase_at, end, drop, desc=self.desc)
        self.phrase_at = self.desc = None
        self.broken = False

    def _outside(self, state: str, between: tuple[int, int], *, before_phrase: bool) -> None:
        """Judge what stands outside phrases and boxes."""
        written = self.found.text[slice(*between)].strip()
        issues = self.found.issues
        if not state:
            issues["text_before"] += bool(self._without_fence(written).strip())
        elif state == "object_ref_end":
            issues["stray_value"] += bool(written)
        else:
            issues["stray_value"] += bool(written.strip(","))
            issues["trailing_comma"] += written.count(",") > 1
            issues["missing_comma"] += before_phrase and "," not in written

    def _without_fence(self, outside: str) -> str:
        """What stands around the answer, without the code fences in it, which are noted."""
        plain = FENCE.sub("", outside)
        if plain != outside:
            self.found.issues["code_fence"] = 1
        return plain

    def _boxes(self, start: int, end: int, *, closed: bool) -> None:
        """Read the boxes of one phrase, between `box_start` and what ends them."""
        found, text = self.found, self.found.text
        cut = not closed and end == len(text)
        desc, opening = self.desc, self.phrase_at
        self.phrase_at = self.desc = None
        broken, self.broken = self.broken, False
        if closed and text[start:end].strip() == _NOTHING and desc is not None and not broken:
            return
        groups = _groups(text, start, end)
        if not closed and not cut and len(groups) > 1 and groups[-1][0] == groups[-1][1]:
            groups.pop()  # the comma before the next phrase, where the closing marker is missing
        groups = self._without_empty(groups, cut=cut)
        for number, (at, until) in enumerate(groups):
            is_last = number == len(groups) - 1
            if cut and is_last and not text[at:until].strip() and number:
                found.issues["truncated"] = 1
                break
            record_at = at if opening is None or number else opening
            written = _numbers(text[at:until])
            if cut and is_last:
                found.drop(record_at, len(text), TRUNCATED, desc=desc, written=written.known)
            elif broken:
                drop = (MALFORMED_RECORD, "missing_marker", None, None)
                found.drop(record_at, until, drop, desc=desc)
            else:
                missing_end = "separator" if not closed and is_last else None
                polygon = len(written.numbers) >= 6 and len(written.numbers) % 2 == 0
                kind: GeometryKind = "poly" if polygon else "bbox_2d"
                add_box(found, record_at, until, desc, written, kind=kind, broken=missing_end)

    def _without_empty(self, groups: list[tuple[int, int]], *, cut: bool) -> list[tuple[int, int]]:
        """The groups between which a comma too many stands, which is noted; no group is made up."""
        kept = [group for group in groups if group[0] < group[1]]
        if cut and groups[-1][0] == groups[-1][1]:
            kept.append(groups[-1])  # the text may end right behind a comma
        if not kept:
            return groups[:1]
        self.found.issues["trailing_comma"] += len(kept) < len(groups)
        return kept


def _groups(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The comma-separated parts of `text[start:end]`, without the spaces around them."""
    out = []
    place = start
    for part in text[start:end].split(","):
        at = place + len(part) - len(part.lstrip())
        out.append((at, max(at, place + len(part.rstrip()))))
        place += len(part) + 1
    return out


def _numbers(group: str) -> Written:
    """The numbers of one box; everything else in it, bare digits included, is foreign."""
    numbers: list[int] = []
    for slot, match in enumerate(_PIECE.finditer(group)):
        digits = match[1] or ""
        if not (digits.isascii() and digits.isdigit()) or (digits[0] == "0" and digits != "0"):
            return Written((), match.group(), slot)
        numbers.append(whole_number(digits))
    return Written(tuple(numbers))


__all__ = ["parse_rex_omni"]
