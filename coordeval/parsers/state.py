"""What one careful parse knows: the text, what was found so far, which issues occurred."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from coordeval.parsers.lexer import NestedBudget, skip_spaces
from coordeval.parsers.record import read_record

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import FoundRecord


class ReadState:
    """The text, its dialect, and what reading it has brought so far.

    No string that opens at or after `unclosed_from` is ever closed.
    """

    def __init__(self, text: str, dialect: Dialect) -> None:
        self.text = text
        self.dialect = dialect
        self.budget = NestedBudget()
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
        """Read the record at `opening`; returns the position after it."""
        read = read_record(self.text, opening, self.dialect, self.budget)
        self.records.append(read.record)
        self.issues.update(read.issues)
        if read.record.reason == "truncated_record":
            self.issues["truncated"] += 1
        return read.after

    @property
    def is_truncated(self) -> bool:
        """True once the text is known to end before its container is closed."""
        return bool(self.issues["truncated"])


__all__ = ["ReadState"]
