"""CogVLM (grounding): prose with boxes in double brackets behind the phrases that they belong to.

    A group of people [[654,450,794,597;836,485,928,602]] are riding in a boat [[386,162,998,749]].

x1,y1,x2,y2 with three digits each; pixel = number / 1000 * size; `;` between the boxes of one
phrase. Source: THUDM/CogVLM, `utils/utils/grounding_parser.py` (`boxstr_to_boxes`, `text_to_dict`).
There the phrase is the last noun chunk before the box, found by a language model. Here it is found
by words alone: what stands between the box and the one before it, the sentence's beginning or the
last determiner ("a", "the", "his", "two", ...), whichever comes last; without a determiner, leading
conjunctions, prepositions and forms of "to be" are left out. Words are kept as they are written.

Prose is what this dialect is made of, so it is no issue. A record is one box; the first one of a
phrase spans from the phrase on, the others their own numbers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from coordeval.parsers.findings import Findings, whole_number
from coordeval.parsers.numbers import TRUNCATED, Written, add_box, inner_bounds

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import ParsedRollout

_OPENING = re.compile(r"\[\[")
_INSIDE = re.compile(r"[^\[\]]*+")
_SENTENCE_END = re.compile(r"[.!?:;]\s|\n")
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*+|\d++|[^\w\s]")
_DETERMINERS = frozenset(
    re.findall(
        r"\w+",
        "a an the this that these those his her its their my your our some another each every "
        "several many both one two three four five six seven eight nine ten",
    )
)
_LEADING = frozenset(
    re.findall(
        r"\w+",
        "and or with in on of at near by from to into under over behind beside between next "
        "is are was were be being there has have holding wearing",
    )
)


class _Phrase(NamedTuple):
    start: int
    text: str


def parse_cogvlm(text: str, dialect: Dialect) -> ParsedRollout:
    """Read any text; never raises, in time linear in its length."""
    found = Findings(text, dialect)
    if not text.strip():
        found.issues["empty_output"] = 1
        return found.result()
    place, end = inner_bounds(found)
    while match := _OPENING.search(text, place, end):
        inside = _INSIDE.match(text, match.end(), end)
        assert inside is not None
        phrase = phrase_before(text, place, match.start())
        closing = text[inside.end() : min(inside.end() + 2, end)]
        place = inside.end() + (2 if closing == "]]" else closing.startswith("]"))
        _add_boxes(found, phrase, match.end(), inside.end(), closing=closing, end=end)
    if not found.records:
        found.issues["no_container"] = 1
    elif text[place:end].endswith("["):
        found.issues["truncated"] = 1
    return found.result()


def _add_boxes(
    found: Findings, phrase: _Phrase, start: int, stop: int, *, closing: str, end: int
) -> None:
    """Read the boxes of one pair of double brackets; `closing` is what follows the inside."""
    text = found.text
    cut = end == len(text) and end - stop <= 1 and closing in {"", "]"}
    parts = text[start:stop].split(";")
    place = start
    for number, part in enumerate(parts):
        at, until = (phrase.start if number == 0 else place), place + len(part)
        place = until + 1
        is_last = number == len(parts) - 1
        written = _numbers(part)
        if number and not part.strip():
            found.issues["truncated" if cut and is_last else "trailing_comma"] = 1
        elif is_last and cut:
            found.drop(at, len(text), TRUNCATED, desc=phrase.text, written=written.known)
        else:
            broken = "separator" if is_last and closing != "]]" else None
            last_end = until + len(closing) if is_last and closing == "]]" else until
            add_box(found, at, last_end, phrase.text, written, broken=broken)


def _numbers(part: str) -> Written:
    """Numbers between commas, zeros before them and all; anything else is foreign."""
    if not part.strip():
        return Written(())
    numbers: list[int] = []
    for slot, piece in enumerate(part.split(",")):
        digits = piece.strip()
        if not (digits.isascii() and digits.isdigit()):
            return Written((), digits, slot)
        numbers.append(whole_number(digits.lstrip("0") or "0"))
    return Written(tuple(numbers))


def phrase_before(text: str, start: int, end: int) -> _Phrase:
    """The phrase that ends before `end`, inside `text[start:end]`; empty where there is none."""
    for stop in _SENTENCE_END.finditer(text, start, end):
        start = stop.end()
    words = list(_WORD.finditer(text, start, end))
    for number in range(len(words) - 1, -1, -1):
        if words[number].group().casefold() in _DETERMINERS and number < len(words) - 1:
            words = words[number:]
            break
    else:
        first = 0
        while first < len(words) and _is_leading(words[first].group()):
            first += 1
        words = words[first:]
    while words and not words[-1].group()[-1].isalnum():
        words.pop()
    if not words:
        return _Phrase(end, "")
    return _Phrase(words[0].start(), text[words[0].start() : words[-1].end()])


def _is_leading(word: str) -> bool:
    return word.casefold() in _LEADING or not word[0].isalnum()


__all__ = ["parse_cogvlm", "phrase_before"]
