"""What the loop guard says when it fires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

LoopKind = Literal["exact", "block", "near", "cycle"]
LONGEST_QUOTE = 200
"""How many characters of a repeated text are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A loop in one sequence; token indices count from 0.

    `onset` is the token where the second copy starts, `at` how many tokens were written when the
    guard fired. `period` counts records (exact: back to the writing before; block: the records of
    the block; near: 1) or, in a cycle, tokens. `copies` are whole copies, the first included;
    `repeated` is the text of one copy, at most 200 characters of it.
    """

    kind: LoopKind
    onset: int
    at: int
    period: int
    copies: int
    repeated: str

    def to_json(self, tokens_saved: int) -> dict[str, Any]:
        """The verdict as a rollout line stores it; `tokens_saved` is 0 where nothing was ended."""
        return {
            "kind": self.kind,
            "onset": self.onset,
            "tokens_saved": tokens_saved,
            "at": self.at,
            "period": self.period,
            "copies": self.copies,
            "repeated": self.repeated,
        }


__all__ = ["LONGEST_QUOTE", "LoopKind", "Verdict"]
