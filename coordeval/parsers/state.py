"""What one careful parse knows: the text, what was found so far, which issues occurred."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from coordeval.parsers.ahead import RecordsAhead
from coordeval.parsers.lexer import RECORD_START, NestedBudget, skip_spaces
from coordeval.parsers.reasons import TRUNCATED_RECORD
from coordeval.parsers.record import read_record
from coordeval.parsers.surroundings import LIST_CONTAINER, MAP_CONTAINER, MAP_ENTRY

if TYPE_CHECKING:
    from coordeval.parsers.canonical import Runs
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import FoundRecord


class ReadState:
    """The text, its dialect, and what reading it has brought so far.

    No string that opens at or after `unclosed_from` is ever closed. Without `runs` every record is
    read field by field, which says the same.
    """

    def __init__(self, text: str, dialect: Dialect, runs: Runs | None = None) -> None:
        self.text = text
        self.dialect = dialect
        self.runs = runs
        self.budget = NestedBudget()
        in_map = dialect.container == "map"
        self.ahead = RecordsAhead(
            text,
            container=(MAP_CONTAINER if in_map else LIST_CONTAINER).pattern,
            record=MAP_ENTRY if in_map else RECORD_START.pattern,
        )
        self.unclosed_from = len(text)
        self.records: list[FoundRecord] = []
        self.issues: Counter[str] = Counter()

    def spaces(self, place: int, canonical: str = "") -> int:
        """Skip white space, noting where it is not the canonical one."""
        end = skip_spaces(self.text, place)
        written = self.text[place:end]
        # What the end of the text cut short is no other spacing.
        cut = end == len(self.text) and canonical.startswith(written)
        if written != canonical and not cut:
            self.issues["nonstandard_spacing"] += 1
        return end

    def record(self, opening: int) -> int:
        """Read the record at `opening`, and its run where one begins; the position after it."""
        run = self.runs.by_start.get(opening) if self.runs is not None else None
        if self.runs is not None and run is not None:
            first, stop, issues = run
            self.records += self.runs.records[first:stop]
            for name in issues:
                self.issues[name] += 1
            return self.records[-1].end
        shortcuts = self.runs is not None
        read = read_record(self.text, opening, self.dialect, self.budget, shortcuts=shortcuts)
        self.records.append(read.record)
        for name in read.issues:
            self.issues[name] += 1
        if read.record.reason == TRUNCATED_RECORD:
            self.issues["truncated"] += 1
        return read.after

    @property
    def is_truncated(self) -> bool:
        """True once the text is known to end before its container is closed."""
        return bool(self.issues["truncated"])


__all__ = ["ReadState"]
