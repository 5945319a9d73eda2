"""Which tokens an automaton can follow from a state: all tokens at once, byte by byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.decoding.automaton import DEAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.decoding.automaton import Automaton


class TokenWalk:
    """Tokens as one array of bytes, sorted, so that those with one first byte stand together."""

    def __init__(self, tokens: Sequence[tuple[int, bytes]]) -> None:
        """`tokens` are (id, bytes) with at least one byte each; none is fine."""
        ordered = sorted(tokens, key=lambda token: token[1])
        self._ids = np.array([token_id for token_id, _ in ordered], dtype=np.int64)
        self._lengths = np.array([len(data) for _, data in ordered], dtype=np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._flat = np.frombuffer(b"".join(data for _, data in ordered), dtype=np.uint8)
        firsts = self._flat[self._starts] if ordered else np.zeros(0, dtype=np.uint8)
        self._first_at = np.searchsorted(firsts, np.arange(257))

    def survivors(
        self, automaton: Automaton, state: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Ids of the tokens that can follow `state`, and the states they lead to; unordered."""
        row = automaton.row(state)
        places = self._with_first_byte(np.flatnonzero(row))
        states = row[self._flat[self._starts[places]]]
        ids: list[NDArray[np.int64]] = []
        ends: list[NDArray[np.int32]] = []
        depth = 1
        while len(places):
            complete = self._lengths[places] == depth
            ids.append(self._ids[places[complete]])
            ends.append(states[complete])
            places, states = places[~complete], states[~complete]
            table = automaton.rows(states)
            states = table[states, self._flat[self._starts[places] + depth]]
            alive = states != DEAD
            places, states = places[alive], states[alive]
            depth += 1
        if not ids:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
        return np.concatenate(ids), np.concatenate(ends)

    def _with_first_byte(self, possible: NDArray[np.int64]) -> NDArray[np.int64]:
        spans = [
            np.arange(self._first_at[byte], self._first_at[byte + 1])
            for byte in possible.tolist()
            if self._first_at[byte] < self._first_at[byte + 1]
        ]
        return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)


__all__ = ["TokenWalk"]
