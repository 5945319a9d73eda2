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
from unicodedata import category

from coordeval.parsers.findings import Findings, whole_number
from coordeval.parsers.numbers import TRUNCATED, Written, add_box, inner_bounds

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import ParsedRollout

# Two brackets, or what is left of them before numbers; then what is left of the closing two.
_OPENING = re.compile(r"\[\[|\[[^\[\]\n]?\[(?=\d{3},)|\[[^\[\]\n]?(?=\d{3}(?:,\d{3}){3})", re.ASCII)
_INSIDE = re.compile(r"[^\[\]]*+")
_CLOSING = re.compile(r"\](?:[^\[\]\n]{0,2}+\]|[\d,; ]++\]{1,2}+)?+|\[[\d,; ]++\]{1,2}+", re.ASCII)
_NUMBERS = re.compile(r"(?:[\s,;]*+\d++)*+", re.ASCII)
_PROSE = re.compile(r"\s++[^\W\d]")
_SENTENCE_END = re.compile(r"[.!?:;]\s|\n")
# A word with its accents, of whatever script, a number, or any other character.
_WORD = re.compile(r"[^\W\d_](?:[\w'\u2019-]|[^\x00-\u02ff\u2000-\u303f\s])*+|\d++|[^\w\s]")
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
        phrase = phrase_before(text, place, match.start())
        stop, closing = _inside(text, match.end(), end)
        place = stop + len(closing)
        whole = (match.group() == "[[", closing == "]]")
        cut = place == len(text) and closing in {"", "]"}
        _add_boxes(found, phrase, match.end(), stop, whole=whole, cut=cut)
    if not found.records:
        found.issues["no_container"] = 1
    elif text[place:end].endswith("["):
        found.issues["truncated"] = 1
    return found.result()


def _inside(text: str, start: int, end: int) -> tuple[int, str]:
    """Where the numbers behind an opening end, and what closes them.

    Prose behind numbers that nothing closes belongs to the next phrase.
    """
    inside = _INSIDE.match(text, start, end)
    numbers = _NUMBERS.match(text, start, end)
    assert inside is not None
    assert numbers is not None
    closing = _CLOSING.match(text, inside.end(), end)
    if closing is not None:
        return inside.end(), closing.group()
    if inside.end() < end or end < len(text) or _PROSE.match(text, numbers.end(), end):
        return numbers.end(), ""
    return inside.end(), ""


def _add_boxes(
    found: Findings,
    phrase: _Phrase,
    start: int,
    stop: int,
    *,
    whole: tuple[bool, bool],
    cut: bool,
) -> None:
    """Read the boxes of one pair of double brackets.

    `whole` says whether the opening two and the closing two are; `cut`: the text ends here.
    """
    text = found.text
    opened, closed = whole
    parts = text[start:stop].split(";")
    place, is_first = start, True
    for number, part in enumerate(parts):
        at, until = (phrase.start if is_first else place), place + len(part)
        place = until + 1
        is_last = number == len(parts) - 1
        is_cut = is_last and cut and not closed
        written, spare = _numbers(part)
        if len(parts) > 1 and not part.strip() and not (is_first and is_last):
            found.issues["truncated" if is_cut else "trailing_comma"] = 1
            continue
        if is_cut:
            found.drop(at, len(text), TRUNCATED, desc=phrase.text, written=written.known)
        else:
            found.issues["trailing_comma"] += spare == 1
            is_broken = (not opened and is_first) or (not closed and is_last) or spare > 1
            last_end = until + len("]]") if is_last and closed else until
            broken = "separator" if is_broken else None
            add_box(found, at, last_end, phrase.text, written, broken=broken)
        is_first = False


def _numbers(part: str) -> tuple[Written, int]:
    """Numbers between commas, zeros before them and all; anything else is foreign.

    The second result is 1 for a comma behind the last one, and more for commas without numbers.
    """
    pieces = [piece.strip() for piece in part.split(",")]
    spare = int(len(pieces) > 1 and not pieces[-1]) + 2 * sum(not one for one in pieces[:-1])
    numbers: list[int] = []
    for slot, digits in enumerate(filter(None, pieces)):
        if not (digits.isascii() and digits.isdigit()):
            return Written((), digits, slot), spare
        numbers.append(whole_number(digits.lstrip("0") or "0"))
    return Written(tuple(numbers)), spare


def phrase_before(text: str, start: int, end: int) -> _Phrase:
    """The phrase that ends before `end`, inside `text[start:end]`; empty where there is none.

    A colon or a new line right before the box ends no sentence: the phrase stands before it.
    """
    shown = start + len(text[start:end].rstrip(" \t\r\n:;"))
    if (
        text[shown:end].strip() == ""
        and shown < end
        and text[start:shown].endswith((".", "!", "?"))
    ):
        return _Phrase(end, "")
    for stop in _SENTENCE_END.finditer(text, start, shown):
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
    while words and _is_punctuation(words[-1].group()):
        words.pop()
    if not words:
        return _Phrase(end, "")
    return _Phrase(words[0].start(), text[words[0].start() : words[-1].end()])


def _is_leading(word: str) -> bool:
    return word.casefold() in _LEADING or _is_punctuation(word)


def _is_punctuation(word: str) -> bool:
    """True for marks of text and of Markdown; emoji, accents and signs may be part of a name."""
    return len(word) == 1 and (category(word)[0] in "PC" or word in "`~^|<>=")


__all__ = ["parse_cogvlm", "phrase_before"]
