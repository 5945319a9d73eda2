"""Which tokens may come next: one language compiled for one vocabulary, and where an answer stands.

The automaton knows bytes; this file knows tokens. Ordinary tokens spell bytes; a coordinate is only
ever a coordinate token; an end token is possible where the answer may end; other special and added
tokens are possible only in free text.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from coordeval.decoding.automaton import DEAD, Automaton
from coordeval.decoding.coordinate_rules import ANY_BIN, Bins, CoordinateRules, Key
from coordeval.decoding.language import Language, Turn, language_of, may_end_at
from coordeval.decoding.spelling import check_spelling
from coordeval.decoding.token_walk import TokenWalk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.decoding.expressions import SlotMark
    from coordeval.decoding.settings import ConstraintSettings
    from coordeval.decoding.token_table import TokenTable
    from coordeval.parsers.dialects import Dialect

_MASK_BYTES = 64 << 20
_MIDDLE = Turn(close=False, go_on=True)


def compile_constraint(
    settings: ConstraintSettings, dialect: Dialect, table: TokenTable
) -> Constraint | None:
    """The constraint of the settings; None for mode none.

    Raises ConfigError for a dialect without coordinate tokens, and CheckpointError for a
    vocabulary that cannot spell the language.
    """
    if settings.mode == "none":
        return None
    language = language_of(settings, dialect)
    check_spelling(settings, dialect, table)
    return Constraint(settings, language, table)


class Constraint:
    """A language over the tokens of one vocabulary; serves any number of answers at once.

    Masks are made for the states that answers reach, and kept within bounded memory.
    """

    def __init__(self, settings: ConstraintSettings, language: Language, table: TokenTable) -> None:
        self.settings = settings
        self.table = table
        self.rules = CoordinateRules(settings, numbered=language.numbered)
        self._language = language
        self._automaton = Automaton()
        self._start = self._automaton.begin(language.start())
        self._entries: dict[tuple[SlotMark, Turn], int] = {}
        self._moves: dict[int, dict[int, int]] = {}
        self._masks: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        pieces = [(i, piece) for i in range(table.vocab_size) if (piece := table.ordinary_bytes(i))]
        self._ordinary = TokenWalk(pieces)
        within = [token_id for token_id in table.end_ids if 0 <= token_id < table.vocab_size]
        self._end_ids = np.array(sorted(within), dtype=np.int64)
        self._coord_ids = np.array(table.coords.token_ids, dtype=np.int64)
        self._bracketed = self._tokens_with_bracket() if language.free_text else []
        self._bracketed_walk = TokenWalk(self._bracketed)

    def _tokens_with_bracket(self) -> list[tuple[int, bytes]]:
        """Tokens that may lead from free text into a list and break there."""
        pieces = ((i, self.table.text_bytes(i)) for i in range(self.table.vocab_size))
        return [
            (i, data)
            for i, data in pieces
            # A list opens with `[`; as the last byte of an ordinary token it can break nothing.
            if b"[" in (data[:-1] if self.table.ordinary_bytes(i) is not None else data)
        ]

    def start(self) -> ConstraintState:
        """An answer of which nothing is written yet."""
        return ConstraintState(self, self._start)

    def slot(self, state: int) -> SlotMark | None:
        """The place of a coordinate token that may come next in a state."""
        return self._automaton.slots[state]

    def accepts(self, state: int) -> bool:
        """True where the answer may end in a state."""
        return self._automaton.accepts[state]

    def next_state(self, state: int, token_id: int) -> int:
        """The state after a token that spells bytes (no end, no coordinate in a list), or DEAD."""
        moves = self._moves.setdefault(state, {})
        following = moves.get(token_id)
        if following is None:
            following = self._follow(state, token_id)
            if following != DEAD:
                moves[token_id] = following
        return following

    def _follow(self, state: int, token_id: int) -> int:
        ordinary = self.table.ordinary_bytes(token_id)
        if ordinary is not None:
            return self._automaton.walk(state, ordinary)
        if not (self._language.free_text and self.accepts(state)):
            return DEAD
        if not 0 <= token_id < self.table.vocab_size:
            return DEAD
        following = self._automaton.walk(state, self.table.text_bytes(token_id))
        return following if self.accepts(following) else DEAD

    def entry(self, mark: SlotMark, turn: Turn) -> int:
        """The state right after a coordinate at `mark`."""
        state = self._entries.get((mark, turn))
        if state is None:
            expr = self._language.after(mark, turn)
            state = self._entries[mark, turn] = self._automaton.begin(expr)
        return state

    def mask(self, state: int) -> NDArray[np.bool_]:
        """Tokens that may follow a state (V,), any coordinate where a coordinate may."""
        packed = self._masks.get(state)
        if packed is None:
            mask = self._make_mask(state)
            self._masks[state] = np.packbits(mask)
            while len(self._masks) * (self.table.vocab_size // 8 + 1) > _MASK_BYTES:
                self._masks.popitem(last=False)
            return mask
        self._masks.move_to_end(state)
        return np.unpackbits(packed, count=self.table.vocab_size).view(np.bool_)

    def _make_mask(self, state: int) -> NDArray[np.bool_]:
        if self._language.free_text and self.accepts(state):
            return self._free_mask(state)
        mask = np.zeros(self.table.vocab_size, dtype=np.bool_)
        survivors, _ = self._ordinary.survivors(self._automaton, state)
        mask[survivors] = True
        if self.slot(state) is not None:
            mask[self._coord_ids] = True
        if self.accepts(state):
            mask[self._end_ids] = True
        return mask

    def _free_mask(self, state: int) -> NDArray[np.bool_]:
        """Free text refuses only tokens that would break into a list."""
        mask = np.ones(self.table.vocab_size, dtype=np.bool_)
        if not self._bracketed:
            return mask
        mask[[token_id for token_id, _ in self._bracketed]] = False
        survivors, ends = self._bracketed_walk.survivors(self._automaton, state)
        for token_id, end in zip(survivors.tolist(), ends.tolist(), strict=True):
            mask[token_id] = self.table.ordinary_bytes(token_id) is not None or self.accepts(end)
        mask[self._end_ids] = True
        return mask

    def end_mask(self) -> NDArray[np.bool_]:
        """Nothing but end tokens (V,)."""
        mask = np.zeros(self.table.vocab_size, dtype=np.bool_)
        mask[self._end_ids] = True
        return mask


class ConstraintState:
    """Where one answer stands; `advance` with every token as it is written."""

    __slots__ = (
        "_bins",
        "_constraint",
        "_ending",
        "_previous",
        "_records",
        "_values",
        "finished",
        "state",
    )

    def __init__(self, constraint: Constraint, state: int) -> None:
        self._constraint = constraint
        self.state = state
        self.finished = False
        self._values: list[int] = []
        self._records = 0
        self._previous: Key | None = None  # of the record before the one that is written
        self._ending: Key | None = None  # of the last record, as far as it is written
        self._bins: Bins | None = None

    def copy(self) -> ConstraintState:
        """An answer that stands at the same place and goes on alone."""
        twin = ConstraintState(self._constraint, self.state)
        twin.finished = self.finished
        twin._values = list(self._values)
        twin._records = self._records
        twin._previous = self._previous
        twin._ending = self._ending
        return twin

    def allowed(self) -> NDArray[np.bool_]:
        """Tokens that may come next (V,); after the end only end tokens."""
        constraint = self._constraint
        if self.finished:
            return constraint.end_mask()
        mask = constraint.mask(self.state)
        bins = self.bins()
        if bins is not None and bins != ANY_BIN:
            ids = constraint.table.coords.token_ids
            mask[list(ids)] = False
            mask[[ids[k] for k in range(bins.low, bins.high + 1) if k != bins.but]] = True
        return mask

    def bins(self) -> Bins | None:
        """Bins that may come next; None where no coordinate may."""
        if self._bins is None:
            mark = self._constraint.slot(self.state)
            if mark is not None and not self.finished:
                # At the first place the last record is complete, and its values are the old ones.
                values, previous = self._values, self._previous
                if mark.position == 0:
                    values, previous = [], self._ending
                self._bins = self._constraint.rules.bins(mark.kind, values, previous)
        return self._bins

    def advance(self, token_id: int) -> None:
        """Note a written token; ValueError where it was not allowed, or after the end."""
        constraint = self._constraint
        if self.finished:
            raise ValueError(f"token {token_id} stands behind the end")
        if token_id in constraint.table.end_ids:
            if constraint.accepts(self.state):
                self.finished = True
                self._bins = None
                return
        else:
            following = constraint.next_state(self.state, token_id)
            if following != DEAD:
                self.state = following
                self._bins = None
                return
            bin_index = constraint.table.bin_of(token_id)
            if bin_index is not None and self._write(bin_index):
                return
        raise ValueError(f"token {token_id} is not allowed here")

    def _write(self, bin_index: int) -> bool:
        """Note a coordinate in its place; False where it was not allowed."""
        constraint, rules = self._constraint, self._constraint.rules
        mark, bins = constraint.slot(self.state), self.bins()
        if mark is None or bins is None or not bins.low <= bin_index <= bins.high:
            return False
        if bin_index == bins.but:
            return False
        if mark.position == 0:
            self._values, self._previous = [], self._ending
            self._records += 1
        self._values.append(bin_index)
        turn = _MIDDLE
        if may_end_at(mark):
            turn = rules.turn(mark.kind, self._values, self._previous, self._records)
            self._ending = rules.key(mark.kind, self._values, self._previous)
        self.state = constraint.entry(mark, turn)
        self._bins = None
        return True


__all__ = ["Constraint", "ConstraintState", "compile_constraint"]
