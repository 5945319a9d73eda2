"""JSON with other names: a list of records as Qwen-VL models write it, or as a user declares it.

    ```json
    [
        {"bbox_2d": [40, 368, 436, 610], "label": "cat"},
        {"bbox_2d": [562, 359, 946, 593], "label": "dog"}
    ]
    ```

Source of Qwen's form: QwenLM/Qwen3-VL, cookbooks (`2d_grounding`, `spatial_understanding`):
Qwen2.5-VL writes pixels of the image as its processor resized it (`x / input_width * width` there),
Qwen3-VL thousandths (`x / 1000 * width`), 1000 included. Both cookbooks read answers with Python's
`ast.literal_eval`, so dictionaries in single quotes are read too; they are noted (`single_quotes`).

A code fence around the list and any white space are part of these dialects and no issue. Reading
goes as in the coordjson parser: positions only move forward, and a broken record is left at its
end or at the next record, whichever comes first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordeval.parsers.ahead import RecordsAhead
from coordeval.parsers.findings import Findings
from coordeval.parsers.json_record import patterns, read_record
from coordeval.parsers.lexer import (
    KEY_AHEAD,
    SPECIAL_TOKEN,
    STRING,
    BrokenRecord,
    NestedBudget,
    TruncatedText,
    read_string,
    skip_spaces,
    skip_value,
)
from coordeval.parsers.python_quotes import unquoted
from coordeval.parsers.surroundings import FENCE

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect
    from coordeval.parsers.record_keys import RecordKeys
    from coordeval.records import ParsedRollout

_W = r"[ \t\n\r]*+"
_EMPTY_LIST = re.compile(r"\[" + _W + r"\]")
_LIST_OF_RECORDS = re.compile(
    r"\[" + _W + r"(?=\{" + _W + r"""(?:\}|(?:["']|[^\W\d])[^{}\[\]]*+(?:[\[}]|\Z)))"""
)
_LIST_OF_ANY = re.compile(r"\[" + _W + r"(?=\{)")
_STRAY_FIRST = r'(?:(?:"[^"\\]{0,80}+"|[^\s,\[\]{}"]{1,80}+)' + _W + "," + _W + "){1,16}+"
# A list opens before its first record, or before a few values that are none (few, so that reading
# stays linear; behind a colon they are a geometry that lost its end).
_LIST_OPENS = rf"(?:(?<!:)(?<!: )\[{_W}{_STRAY_FIRST}|\[{_W})"
_BETWEEN_RECORDS = frozenset(",{}")
_STRAY_WORD = re.compile(r'[^\s,\[\]{}"`]++')
_BRACKETS = re.compile(r"[\[\]{}:,\s]++")


def parse_json_records(text: str, dialect: Dialect) -> ParsedRollout:
    """Read any text; never raises, in time linear in its length."""
    assert dialect.keys is not None
    if not text.strip():
        found = Findings(text, dialect)
        found.issues["empty_output"] = 1
        return found.result()
    plain = unquoted(text, dialect.keys)
    found = Findings(plain.text, dialect)
    _Reader(found, dialect.keys).read()
    if plain.changed:
        found.issues["single_quotes"] = 1
        found.records = [
            record._replace(start=plain.place(record.start), end=plain.place(record.end))
            for record in found.records
        ]
    return found.result()


class _Reader:
    """Finds the list and walks it. No string that opens at `unclosed_from` or later is closed."""

    def __init__(self, found: Findings, keys: RecordKeys) -> None:
        self.found, self.keys = found, keys
        self.text = found.text
        self.issues = found.issues
        self.patterns = patterns(keys)
        self.budget = NestedBudget()
        self.unclosed_from = len(self.text)
        key = "" if keys.objects is None else f'"{re.escape(keys.objects)}"{_W}:{_W}'
        start = self.patterns.start.pattern
        self.ahead = RecordsAhead(
            self.text, container=key + r"\[" + ("" if key else f"{_W}(?={start})"), record=start
        )

    def read(self) -> None:
        start, inside = self._container()
        if inside is None:
            self.issues["no_container"] = 1
            self._bare()
            return
        self._before(start)
        keyed = self.keys.objects is not None and self.text.startswith("{", start)
        goes_on: int | None = inside
        while goes_on is not None:
            place, closed = self._walk(goes_on)
            place, goes_on = self._close_object(place) if closed and keyed else (place, None)
        self._after(place)

    # The container.

    def _container(self) -> tuple[int, int | None]:
        """Where the container opens and where its list's inside begins; None without one."""
        if self.keys.objects is not None:
            return self._keyed_list()
        first = re.search(_LIST_OPENS + f"(?={self.patterns.start.pattern})", self.text)
        first = first or self._doubled_brace() or self._broken_first()
        if first is not None:
            return first.start(), first.start() + 1
        if self.patterns.start.search(self.text) is not None:
            return 0, None
        empty = _EMPTY_LIST.search(self.text)
        # Records of other keys altogether are found all the same, where they stand in a list.
        other = _LIST_OF_RECORDS.search(self.text)
        if other is not None and (empty is None or other.start() < empty.start()):
            return other.start(), other.end()
        if empty is not None:
            return empty.start(), empty.start() + 1
        return self._cut_list()

    def _doubled_brace(self) -> re.Match[str] | None:
        """A list whose first record is broken at once: `[{{` or `[{ {`."""
        return re.search(r"\[" + _W + r"(?=\{" + _W + self.patterns.start.pattern + ")", self.text)

    def _broken_first(self) -> re.Match[str] | None:
        """A list whose first record has a broken or another key, and a later one a known key."""
        known = self.patterns.start.search(self.text)
        if known is None or self.text[: known.start()].rstrip()[-1:] not in _BETWEEN_RECORDS:
            return None
        return _LIST_OF_ANY.search(self.text, 0, known.start())

    def _cut_list(self) -> tuple[int, int | None]:
        """A text that is cut right behind the `[` of its list, or inside its first key."""
        match = re.search(
            r"\[" + _W + r"(?:\{" + _W + r'(?:"[^"\\:]{0,40}+"?+' + _W + r")?+)?+\Z", self.text
        )
        return (0, None) if match is None else (match.start(), match.start() + 1)

    def _keyed_list(self) -> tuple[int, int | None]:
        """The list under the declared key, and the `{` that the key stands in."""
        key = re.escape(self.keys.objects or "")
        match = re.search(f'"{key}"' + _W + ":" + _W + r"\[", self.text)
        if match is None:
            return 0, None
        before = self.text[: match.start()]
        shown = before.rstrip()
        if shown.endswith("{"):
            return len(shown) - 1, match.end()
        opening = before.find("{")
        if opening < 0:
            return match.start(), match.end()
        self.issues["unknown_top_level_key"] += bool(before[opening + 1 :].strip())
        return opening, match.end()

    def _before(self, start: int) -> None:
        rest = FENCE.sub("", self.text[:start])
        self.issues["text_before"] += bool(rest.strip())

    def _close_object(self, place: int) -> tuple[int, int | None]:
        """Read what stands between the list's `]` and the `}` of the object around it.

        Returns where it ends; where it is broken, also where the next record is, if there is one.
        """
        text = self.text
        while True:
            place = skip_spaces(text, place)
            if text.startswith("}", place):
                return place + 1, None
            following = skip_spaces(text, place + 1) if text.startswith(",", place) else -1
            if following >= 0 and text.startswith("}", following):
                self.issues["trailing_comma"] += 1
                place = following
            elif following >= 0 and KEY_AHEAD.match(text, following):
                self.issues["unknown_top_level_key"] += 1
                try:
                    _, after = read_string(text, following, ":")
                    value_at = skip_spaces(text, skip_spaces(text, after) + 1)
                    place = skip_value(text, value_at, self.budget)
                except (BrokenRecord, TruncatedText):
                    self.issues["truncated"] = 1
                    return len(text), None
            elif (record := self.ahead.find(place)) is not None:
                self.issues["stray_value"] += 1
                return place, record
            else:
                self.issues["truncated"] = 1
                return place, None

    def _after(self, place: int) -> None:
        """Note what stands behind the container; records there are another one, not scored."""
        rest = self.text[place:]
        if not rest:
            return
        if self.patterns.start.search(rest) is not None:
            self.issues["second_container"] += max(1, self.ahead.containers(place))
        self.issues["text_after"] += bool(FENCE.sub("", rest).strip())

    # The records.

    def _walk(self, place: int) -> tuple[int, bool]:
        """Read the list whose inside begins at `place`, up to and including its `]`.

        Returns the position after it and whether it was closed.
        """
        text, size = self.text, len(self.text)
        after_value = after_comma = False
        while True:
            place = skip_spaces(text, place)
            token = SPECIAL_TOKEN.match(text, place)
            ended = token is not None and self.ahead.find(place) is None
            if place >= size or ended or FENCE.match(text, place):
                self.issues["truncated"] = 1
                return place, False
            character = text[place]
            if character == "{":
                self.issues["missing_comma"] += after_value and not after_comma
                place = read_record(self.found, self.keys, place, self.budget)
                after_value, after_comma = True, False
            elif character == ",":
                self.issues["trailing_comma"] += after_comma or not after_value
                after_comma, place = True, place + 1
            elif character == "]" and not self._goes_on(place + 1):
                self.issues["trailing_comma"] += after_comma
                return place + 1, True
            elif character == "}" and self.keys.objects is not None and self._is_last(place + 1):
                self.issues["stray_value"] += 1
                return place, True
            else:
                self.issues["stray_value"] += 1
                place = self._skip_stray(place)
                after_value, after_comma = after_value or character not in "}[", False

    def _goes_on(self, place: int) -> bool:
        """True where a `]` is the remnant of a broken record: a record follows it all the same."""
        following = skip_spaces(self.text, place)
        brace = self.text.startswith("}", following)
        if brace:  # the record's own, left behind with its list's `]`
            following = skip_spaces(self.text, following + 1)
        comma = self.text.startswith(",", following)
        if comma:
            following = skip_spaces(self.text, following + 1)
        if brace and not comma:
            return False
        if self.patterns.start.match(self.text, following):
            return True
        return comma and self.patterns.key.match(self.text, following) is not None

    def _is_last(self, place: int) -> bool:
        """True where nothing of a list follows."""
        following = skip_spaces(self.text, place)
        return following >= len(self.text) or self.text[following] not in ',]}{"'

    def _skip_stray(self, place: int) -> int:
        """Position after the string, word or single character that is no record."""
        text = self.text
        if text[place] == '"' and place < self.unclosed_from:
            string = STRING.match(text, place)
            if string is None:
                self.unclosed_from = place
                return place + 1
            following = skip_spaces(text, string.end())
            return string.end() if text[following : following + 1] in ",]}:{" else place + 1
        word = _STRAY_WORD.match(text, place)
        return word.end() if word else place + 1

    def _bare(self) -> None:
        """Records without a list around them, amid whatever text."""
        text = self.text
        place = 0
        outside: list[str] = []
        while match := self.patterns.start.search(text, place):
            outside.append(text[place : match.start()])
            place = read_record(self.found, self.keys, match.start(), self.budget)
        if not self.found.records:
            return
        outside.append(text[place:])
        first, *between, last = [_BRACKETS.sub("", FENCE.sub("", part)) for part in outside]
        self.issues["text_before"] += bool(first)
        self.issues["stray_value"] += sum(map(bool, between))
        self.issues["text_after"] += bool(last)


__all__ = ["parse_json_records"]
