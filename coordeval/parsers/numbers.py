"""One written box of a foreign dialect: its numbers, or what stands among them that is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from coordeval.parsers.reasons import MISSING_GEOMETRY, TRUNCATED_RECORD, WRONG_ARITY
from coordeval.parsers.surroundings import FENCE

if TYPE_CHECKING:
    from coordeval.parsers.findings import Drop, Findings
    from coordeval.records import GeometryKind

SPECIALS = re.compile(
    r"(?:<(?:/?s|/?pad|bos|eos|unk|end_of_turn)>|<\|(?!coord_)[^|<>\s]{1,40}\|>|\s)*+"
)
_SPECIAL_AT_END = re.compile(
    r"\s*+(?:<(?:/?s|/?pad|bos|eos|unk|end_of_turn)>|<\|(?!coord_)[^|<>\s]{1,40}\|>)\s*+\Z"
)

END_OF_ANSWER = re.compile(r"</s>|<(?:eos|end_of_turn)>|<\|(?:im_end|endoftext|end_of_text)\|>")
"""What ends an answer, whatever follows it."""
_FENCE = re.compile(r"\s*+```[A-Za-z0-9_-]*+(?:\s++|\Z)")
_FENCE_LINE = re.compile(r"```(?:[A-Za-z0-9_-]*+\s++)?+")
_FENCE_AT_END = re.compile(r"\s*+```\s*+\Z")

TRUNCATED: Drop = (TRUNCATED_RECORD, None, None, None)
NO_GEOMETRY: Drop = (MISSING_GEOMETRY, "absent", None, None)


class Written(NamedTuple):
    """Numbers in order, and the first foreign piece with its slot where there is one."""

    numbers: tuple[int, ...]
    foreign: str | None = None
    slot: int | None = None

    @property
    def known(self) -> tuple[int, ...] | None:
        """The numbers where nothing foreign stands among them."""
        return self.numbers if self.foreign is None else None


def add_box(
    found: Findings,
    start: int,
    end: int,
    desc: str | None,
    written: Written,
    *,
    kind: GeometryKind = "bbox_2d",
    broken: str | None = None,
) -> None:
    """Add the record of one box; `broken` is the detail where its list has no proper end."""
    if written.foreign is None and broken is None:
        found.add(start, end, desc, kind, written.numbers)
        return
    drop: Drop = (WRONG_ARITY, broken, None, None)
    if written.foreign is not None:
        drop = (WRONG_ARITY, "foreign_token", written.foreign, written.slot)
    if desc is None or not desc.strip():
        found.add(start, end, desc, kind, ())  # which is dropped for the name, the earlier reason
        return
    found.drop(start, end, drop, desc=desc, kind=kind, written=written.known)


def inner_bounds(found: Findings, token: str | None = None) -> tuple[int, int]:
    """Where the answer begins and ends without special tokens and fences around it; both are noted.

    An end token ends the answer, whatever follows it. `token` is what every record holds, in the
    dialects where prose is no part of one: a fence around the first one is the answer's, wherever
    it stands. Linear: every special token is stepped over once.
    """
    text = found.text
    opening = SPECIALS.match(text)
    assert opening is not None
    start = opening.end()
    ending = END_OF_ANSWER.search(text, start)
    end = len(text) if ending is None else ending.start()
    while (cut := _last_special(text, start, end)) is not None:
        end = cut
    found.issues["text_before"] += "<" in text[:start]
    found.issues["text_after"] += "<" in text[end:]
    fenced = None if token is None else _fenced(found, start, end, token)
    return fenced or _without_fence(found, start, end)


def _fenced(found: Findings, start: int, end: int, token: str) -> tuple[int, int] | None:
    """The inside of the fence that the first record stands in; what stands around it is noted."""
    text = found.text
    first = text.find(token, start, end)
    opening = None
    for fence in _FENCE_LINE.finditer(text, start, max(start, first)):
        opening = fence if opening is None else None
    if opening is None:
        return None
    closing = text.find("```", first, end)
    inside_end = closing if closing >= 0 else end
    behind = text[inside_end + len("```") : end]
    found.issues["code_fence"] = 1
    found.issues["text_before"] |= bool(text[start : opening.start()].strip())
    found.issues["text_after"] |= bool(FENCE.sub("", behind).strip())
    found.issues["second_container"] += token in behind
    return opening.end(), inside_end


def _without_fence(found: Findings, start: int, end: int) -> tuple[int, int]:
    """The bounds without a Markdown code fence around the answer."""
    text = found.text
    opening = _FENCE.match(text, start, end)
    tail = text.rfind("```", start if opening is None else opening.end(), end)
    if opening is not None:
        start = opening.end()
    if tail >= 0 and _FENCE_AT_END.match(text, tail, end) is not None:
        end = tail
    elif opening is None:
        return start, end
    found.issues["code_fence"] = 1
    return start, end


def _last_special(text: str, start: int, end: int) -> int | None:
    """Where the special token at the end of `text[start:end]` begins, if there is one."""
    opening = text.rfind("<", max(start, end - 64), end)
    if opening < 0:
        return None
    tail = _SPECIAL_AT_END.fullmatch(text[opening:end])
    return opening if tail is not None else None


__all__ = [
    "END_OF_ANSWER",
    "NO_GEOMETRY",
    "SPECIALS",
    "TRUNCATED",
    "Written",
    "add_box",
    "inner_bounds",
]
