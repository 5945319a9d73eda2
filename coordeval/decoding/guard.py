"""The loop guard: watches one sequence token by token and says when it has begun to loop.

It works on what the tokens write, so the same guard serves Hugging Face, vLLM and a client that
only sees a stream of text; and it is a pure function of the tokens, so that what a processor saw
inside an engine can be computed again from the token ids.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordeval.decoding.periodic_tail import PeriodicTail
from coordeval.decoding.record_repeats import RecordRepeats
from coordeval.decoding.record_stream import RecordStream
from coordeval.decoding.verdict import LONGEST_QUOTE, Verdict
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordeval.decoding.periodic_tail import TailRun
    from coordeval.decoding.record_repeats import RecordLoop
    from coordeval.decoding.settings import GuardSettings
    from coordeval.decoding.token_table import TokenTable
    from coordeval.parsers.dialects import Dialect

LONGEST_CYCLE = 4096
"""Tokens of the longest cycle outside complete records that is looked for."""
STILL_POINTS = 4
"""How much longer one or two points may stand still in a list before that is a cycle: a polygon
with many points that is tiny in its image has them honestly in one bin."""

_POINTS = re.compile(rb'[<|>coord_0-9,\s"]*')
_MOST_POINT_COMMAS = 4
_MOST_POINT_TOKENS = 32


class LoopGuard:
    """One sequence's guard. `settings.mode` is left to the caller: the guard only tells.

    Amortised time per token is constant, over the whole history: loops of records of any period,
    and cycles of up to `LONGEST_CYCLE` tokens outside complete records. Raises ConfigError for
    other models' dialects, whose records it cannot follow.
    """

    def __init__(self, settings: GuardSettings, dialect: Dialect) -> None:
        require_followable(dialect)
        self.verdict: Verdict | None = None
        self._settings = settings
        self._stream = RecordStream(dialect)
        self._repeats = RecordRepeats(settings)
        self._tail = PeriodicTail(
            copies=settings.cycle_repeats,
            least_symbols=settings.cycle_tokens,
            max_period=LONGEST_CYCLE,
        )
        self._num_tokens = 0
        self._record_tokens: list[int] = []
        self._record_texts: list[str] = []

    def push(self, token_id: int, piece: bytes) -> Verdict | None:
        """Take one token and the bytes that it adds to the text.

        Returns the verdict if this token makes the guard fire, else None; once it has fired,
        `verdict` keeps saying so and further tokens are not looked at. For a stream of text
        without ids, any stable integer per piece will do.
        """
        if self.verdict is not None:
            return None
        self._num_tokens += 1
        records = self._stream.push(piece)
        if not records:
            run = self._tail.push(token_id)
            if run is not None and not self._still_honest(run):
                self.verdict = self._cycle_verdict(run)
            return self.verdict
        for record in records:
            self._record_tokens.append(record.token)
            self._record_texts.append(record.text[:LONGEST_QUOTE])
            loop = self._repeats.add(record)
            if loop is not None:
                self.verdict = self._record_verdict(loop)
                return self.verdict
        # A broken record may be given up some tokens into the next one.
        begun = len(self._stream.pieces) - 1
        self._tail.restart([*self._tail.symbols, token_id][-begun:] if begun else ())
        return None

    def _still_honest(self, run: TailRun) -> bool:
        """True for a point or two that repeat in a geometry list, up to a longer measure."""
        if run.period > _MOST_POINT_TOKENS:
            return False
        settings = self._settings
        long_enough = (
            run.copies >= STILL_POINTS * settings.cycle_repeats
            and run.length >= STILL_POINTS * settings.cycle_tokens
        )
        if long_enough:
            return False
        one = b"".join(self._stream.pieces[-run.period :])
        return 1 <= one.count(b",") <= _MOST_POINT_COMMAS and _POINTS.fullmatch(one) is not None

    def _record_verdict(self, loop: RecordLoop) -> Verdict:
        texts = self._record_texts[loop.first : loop.last]
        return Verdict(
            kind=loop.kind,
            onset=self._record_tokens[loop.second],
            at=self._num_tokens,
            period=loop.period,
            copies=loop.copies,
            repeated=", ".join(texts)[:LONGEST_QUOTE],
        )

    def _cycle_verdict(self, run: TailRun) -> Verdict:
        one = b"".join(self._stream.pieces[-run.period :])
        return Verdict(
            kind="cycle",
            onset=self._num_tokens - run.length + run.period,
            at=self._num_tokens,
            period=run.period,
            copies=run.copies,
            repeated=one.decode("utf-8", "replace")[:LONGEST_QUOTE],
        )


def require_followable(dialect: Dialect) -> None:
    """Refuse other models' dialects, whose records a guard cannot follow, with a ConfigError."""
    if dialect.is_foreign:
        raise ConfigError(
            f"--loop-guard reads records of coordeval's own dialects, and {dialect.name} is "
            "another model's: leave it out; loops are found all the same when the run is scored"
        )


def replay_guard(
    settings: GuardSettings, dialect: Dialect, token_ids: Iterable[int], table: TokenTable
) -> Verdict | None:
    """The verdict of a guard over a whole sequence, up to its first end token; None for none.

    Mode `off` gives None.
    """
    if settings.mode == "off":
        return None
    guard = LoopGuard(settings, dialect)
    for token_id in token_ids:
        if token_id in table.end_ids:
            break
        if guard.push(token_id, table.text_bytes(token_id)) is not None:
            break
    return guard.verdict


__all__ = ["LONGEST_CYCLE", "LoopGuard", "Verdict", "replay_guard", "require_followable"]
